//! Names of classes.

use super::Files;
use super::spec::Labels;
use crate::error::{Error, Result};

/// COCO's 80 classes in the order in which detectors number them.
#[rustfmt::skip]
pub const COCO: [&str; 80] = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
];

/// The names that a job gives, one for each class.
///
/// # Errors
/// Usage, naming the file, where it cannot be read or holds no name.
pub fn read(labels: &Labels, files: Files) -> Result<Vec<String>> {
    match labels {
        Labels::Names(names) => Ok(names.clone()),
        Labels::File(name) if name == "coco" => Ok(COCO.map(str::to_string).to_vec()),
        Labels::File(file) => {
            let (name, expected) = ((files.shown)(file), "expected `coco` or a text file with one name a line");
            let wrong = |e: Error| Error { message: format!("labels {name}: {}; {expected}", e.message), ..e };
            let bytes = (files.read)(file).map_err(wrong)?;
            let text = String::from_utf8(bytes).map_err(|e| wrong(Error::usage(format!("it is no UTF-8: {e}"))))?;
            // Editors on Windows begin a text with a mark that belongs to no name.
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let mut names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
            while names.last().is_some_and(String::is_empty) {
                names.pop();
            }
            if names.is_empty() {
                return Err(Error::usage(format!("labels {name}: the file holds no names; expected one a line")));
            }
            Ok(names)
        }
    }
}

/// Names in the metadata that ultralytics writes, `{0: 'person', 1: "bicycle"}`; none where it is not that.
pub fn parse_names(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut names, mut rest) = (Vec::new(), inner.trim());
    while !rest.is_empty() {
        let (index, tail) = rest.split_once(':')?;
        if index.trim().parse::<usize>().ok()? != names.len() {
            return None;
        }
        let tail = tail.trim_start();
        let quote = tail.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        let (name, tail) = tail[1..].split_once(quote)?;
        names.push(name.to_string());
        rest = tail.trim_start().trim_start_matches(',').trim_start();
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files_lists_and_metadata() {
        let local = |path: &str| std::fs::read(path).map_err(|e| Error::usage(e.to_string()));
        let read = |labels: &Labels| read(labels, Files { read: &local, shown: str::trim });
        assert_eq!(read(&Labels::File("coco".into())).unwrap()[62], "tv");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("names.txt");
        let labels = Labels::File(file.to_str().unwrap().into());
        for text in ["face\n\nmask \n\n", "\u{feff}face\r\n\r\nmask"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&labels).unwrap(), ["face", "", "mask"]);
        }
        std::fs::write(&file, b"caf\xe9").unwrap();
        assert!(read(&labels).unwrap_err().message.contains("UTF-8"));
        assert!(read(&Labels::File("/none.txt".into())).unwrap_err().message.contains("/none.txt"));
        assert_eq!(parse_names("{0: 'person', 1: \"driver's seat\"}").unwrap(), ["person", "driver's seat"]);
        assert_eq!(parse_names("{1: 'person'}"), None);
        assert_eq!(parse_names("person"), None);
    }
}
