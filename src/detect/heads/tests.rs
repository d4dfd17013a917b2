//! Each head on a few cells whose boxes were worked out by hand.

use super::*;

fn output(name: &str, shape: &[usize], data: Vec<f32>) -> Output {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    Output { name: name.into(), shape: shape.into(), data }
}

fn declared(name: &str, shape: &[i64]) -> Declared {
    Declared { name: name.into(), shape: shape.into() }
}

fn decode(head: &str, outputs: &[Output]) -> Vec<Found> {
    head.parse::<Head>().unwrap().decode(outputs, (32, 32), 0.5).unwrap()
}

fn one(found: &[Found], class: usize, score: f32, bounds: [f32; 4]) {
    let [f] = found else { panic!("{found:?}") };
    assert_eq!(f.class, class);
    assert!((f.score - score).abs() < 1e-5, "{f:?}");
    assert!(f.bounds.iter().zip(&bounds).all(|(a, b)| (a - b).abs() < 1e-3), "{f:?}, expected {bounds:?}");
}

#[test]
fn yolox_adds_the_cell() {
    // 32 x 32: 16 + 4 + 1 cells. The 17th is the first of stride 16, the 18th the one beside it.
    let mut data = vec![0.0; 21 * 7];
    data[17 * 7..18 * 7].copy_from_slice(&[0.5, 0.25, 0.0, (2.0f32).ln(), 0.9, 0.1, 0.8]);
    let found = decode("yolox", &[output("output", &[21, 7], data)]);
    one(&found, 1, 0.72, [24.0 - 8.0, 4.0 - 16.0, 24.0 + 8.0, 4.0 + 16.0]);
}

#[test]
fn yolov5_is_decoded_and_may_have_points() {
    let row = [10.0, 12.0, 4.0, 6.0, 0.9, 0.1, 0.9];
    one(&decode("yolov5", &[output("o", &[1, 7], row.to_vec())]), 1, 0.81, [8.0, 9.0, 12.0, 15.0]);
    let row = [10.0, 12.0, 4.0, 6.0, 0.9, 1.0, 2.0, 3.0, 4.0, 0.9];
    let found = decode("yolov5:points=2", &[output("o", &[1, 10], row.to_vec())]);
    one(&found, 0, 0.81, [8.0, 9.0, 12.0, 15.0]);
    assert_eq!(found[0].points, [[1.0, 2.0], [3.0, 4.0]]);
}

#[test]
fn yolov8_lies_in_columns() {
    let columns = [[9.0, 10.0], [9.0, 12.0], [9.0, 4.0], [9.0, 6.0], [0.1, 0.2], [0.3, 0.7]];
    let data = columns.concat();
    one(&decode("yolov8", &[output("o", &[6, 2], data.clone())]), 1, 0.7, [8.0, 9.0, 12.0, 15.0]);
    // The last row is the coefficient of a mask, not a class.
    let masks = output("p", &[1, 2, 2], vec![0.0; 4]);
    assert!(decode("yolo11", &[output("o", &[6, 2], data), masks]).is_empty());
}

#[test]
fn end2end_has_corners_and_fills_up() {
    let rows = [[1.0, 2.0, 3.0, 4.0, 0.9, 5.0], [0.0, 0.0, 0.0, 0.0, 0.9, -1.0], [0.0, 0.0, 9.0, 9.0, 0.4, 1.0]];
    one(&decode("yolov10", &[output("o", &[3, 6], rows.concat())]), 5, 0.9, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn nanodet_takes_the_mean_of_each_distance() {
    let mut outputs = Vec::new();
    for (s, n) in [(8, 16), (16, 4), (32, 1)] {
        let (mut scores, mut boxes) = (vec![0.0; 2 * n], vec![0.0; 32 * n]);
        if s == 16 {
            scores[2 * 3 + 1] = 0.75;
            // All weight on 1, 0, half on 0 and half on 1, even over 0..=7.
            boxes[32 * 3 + 1] = 99.0;
            boxes[32 * 3 + 8] = 99.0;
            (boxes[32 * 3 + 16], boxes[32 * 3 + 17]) = (99.0, 99.0);
        }
        outputs.push(output(&format!("cls_pred_stride_{s}"), &[n, 2], scores));
        outputs.push(output(&format!("dis_pred_stride_{s}"), &[n, 32], boxes));
    }
    one(&decode("nanodet", &outputs), 1, 0.75, [23.5 - 16.0, 23.5, 23.5 + 8.0, 23.5 + 56.0]);
}

#[test]
fn nanodet_plus_is_anchored_at_the_corner() {
    let mut data = vec![0.0; 22 * 33];
    data[33] = 0.6;
    one(&decode("nanodet_plus", &[output("output", &[22, 33], data)]), 0, 0.6, [-20.0, -28.0, 36.0, 28.0]);
}

#[test]
fn ssd_leaves_the_background_out_and_counts_each_class() {
    let scores = output("scores", &[2, 3], vec![0.9, 0.05, 0.05, 0.0, 0.4, 0.6]);
    let boxes = output("boxes", &[2, 4], vec![0.0, 0.0, 1.0, 1.0, 0.25, 0.5, 0.5, 1.0]);
    one(&decode("ultraface", &[scores, boxes]), 1, 0.6, [8.0, 16.0, 16.0, 32.0]);
}

#[test]
fn yunet_gives_five_points() {
    let mut outputs = Vec::new();
    for (s, n) in [(8, 16), (16, 4), (32, 1)] {
        let at = if s == 32 { 1.0 } else { 0.0 };
        outputs.push(output(&format!("cls_{s}"), &[n, 1], vec![0.81 * at; n]));
        outputs.push(output(&format!("obj_{s}"), &[n, 1], vec![at; n]));
        outputs.push(output(&format!("bbox_{s}"), &[n, 4], [0.5, 0.5, 0.0, 0.0].repeat(n)));
        outputs.push(output(&format!("kps_{s}"), &[n, 10], vec![0.25; 10 * n]));
    }
    let found = decode("yunet", &outputs);
    one(&found, 0, 0.9, [0.0, 0.0, 32.0, 32.0]);
    assert_eq!(found[0].points, [[8.0, 8.0]; 5]);
}

#[test]
fn detr_has_a_class_for_nothing_and_rtdetr_has_none() {
    let boxes = || output("pred_boxes", &[2, 4], vec![0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 1.0, 1.0]);
    let logits = output("logits", &[2, 3], vec![0.0, (8.0f32).ln(), 0.0, 0.0, 0.0, 5.0]);
    one(&decode("detr", &[logits, boxes()]), 1, 0.8, [12.0, 8.0, 20.0, 24.0]);
    let logits = output("logits", &[2, 2], vec![-5.0, (3.0f32).ln(), -1.0, -2.0]);
    one(&decode("rtdetr", &[logits, boxes()]), 1, 0.75, [12.0, 8.0, 20.0, 24.0]);
    let joined = output("output0", &[1, 6], vec![0.5, 0.5, 0.25, 0.5, 0.9, 0.1]);
    one(&decode("rtdetr", &[joined]), 0, 0.9, [12.0, 8.0, 20.0, 24.0]);
}

#[test]
fn tf_ssd_has_rows_first_and_a_count() {
    let outputs = |count: f32| {
        [
            output("detection_boxes:0", &[2, 4], vec![0.25, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0, 1.0]),
            output("detection_classes:0", &[2], vec![3.0, 4.0]),
            output("detection_scores:0", &[2], vec![0.8, 0.7]),
            output("num_detections:0", &[], vec![count]),
        ]
    };
    one(&decode("tf_ssd", &outputs(1.0)), 3, 0.8, [16.0, 8.0, 32.0, 16.0]);
    assert_eq!(decode("tf_ssd", &outputs(2.0)).len(), 2);
}

#[test]
fn fastestdet_weighs_objectness_and_class() {
    // 2 x 2 cells; the one at the top right.
    let mut data = vec![0.0; 7 * 4];
    for (channel, value) in [1.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.9].into_iter().enumerate() {
        data[channel * 4 + 1] = value;
    }
    let score = libm::powf(0.9, 0.4);
    one(&decode("fastestdet", &[output("o", &[7, 2, 2], data)]), 1, score, [8.0, -8.0, 24.0, 8.0]);
}

#[test]
fn layouts_are_recognised_by_their_outputs() {
    let is = |outputs: &[Declared], size: (u32, u32)| Head::recognise(outputs, size, 0).map(|h| h.layout);
    let single = |shape: &[i64]| is(&[declared("output", shape)], (416, 416)).unwrap();
    assert_eq!(single(&[1, 3549, 85]), Layout::Yolox);
    assert_eq!(single(&[1, 10647, 85]), Layout::Yolov5);
    assert_eq!(single(&[1, 84, 3549]), Layout::Yolov8);
    assert_eq!(single(&[-1, 300, 6]), Layout::End2end);
    assert_eq!(single(&[1, 3598, 112]), Layout::NanodetPlus);
    assert_eq!(single(&[1, 85, 26, 26]), Layout::Fastestdet);
    assert_eq!(single(&[1, 300, 84]), Layout::Rtdetr);
    let ssd = [declared("scores", &[1, 4420, 2]), declared("boxes", &[1, 4420, 4])];
    assert_eq!(is(&ssd, (320, 240)).unwrap(), Layout::Ssd);
    let seg = [declared("output0", &[1, 116, 8400]), declared("output1", &[1, 32, 160, 160])];
    assert_eq!(is(&seg, (640, 640)).unwrap(), Layout::Yolov8);
    let e = is(&[declared("x", &[1, 7, 9])], (224, 224)).unwrap_err();
    assert!(e.message.contains("x [1, 7, 9]") && e.message.contains("yolox") && e.exit_code() == 2, "{e}");
    let plates = [declared("output", &[1, 6300, 15])];
    let e = is(&plates, (320, 320)).unwrap_err();
    assert!(e.message.contains("10 classes") && e.message.contains("yolov5:points=4"), "{e}");
    let points = |labels| Head::recognise(&plates, (320, 320), labels).unwrap().points;
    assert_eq!((points(2), points(10)), (4, 0));
    let detr = [declared("logits", &[1, 100, 92]), declared("pred_boxes", &[1, 100, 4])];
    assert!(is(&detr, (800, 800)).unwrap_err().message.contains("detr or rtdetr"));
}

#[test]
fn outputs_of_another_head_are_an_error() {
    for layout in Layout::ALL {
        let head = Head::of(layout);
        let e = head.decode(&[output("odd", &[2, 3], vec![0.0; 6])], (32, 32), 0.5).unwrap_err();
        assert!(e.message.contains("odd [?, 2, 3]") && e.message.contains(layout.name()), "{e}");
        assert_eq!(layout.name().parse::<Head>().unwrap(), head);
    }
    assert!("yolov99".parse::<Head>().unwrap_err().message.contains("yolov99"));
    assert!("yolox:points=3".parse::<Head>().is_err());
}

#[test]
fn classes_come_from_logits_or_shares() {
    let classes = |head: &str, values: &[f32]| {
        let found = head.parse::<Head>().unwrap();
        let found = found.decode(&[output("o", &[values.len(), 1, 1], values.to_vec())], (32, 16), 0.0).unwrap();
        assert!(found.iter().all(|f| f.bounds == [0.0, 0.0, 32.0, 16.0]));
        found.iter().map(|f| (f.class, (f.score * 1e4).round() / 1e4)).collect::<Vec<_>>()
    };
    let logits = [0.0, (3.0f32).ln()];
    assert_eq!(classes("classify", &logits), [(0, 0.25), (1, 0.75)]);
    assert_eq!(classes("classify", &[0.25, 0.75]), [(0, 0.25), (1, 0.75)]);
    assert_ne!(classes("classify:logits", &[0.25, 0.75]), [(0, 0.25), (1, 0.75)]);
    // Of labels that do not exclude each other.
    assert_eq!(classes("classify:probabilities", &[0.9, 0.8]), [(0, 0.9), (1, 0.8)]);
    assert_eq!(classes("classify", &[0.3]), [(0, 0.3)]);
    assert_eq!(classes("classify:logits", &[(3.0f32).ln()]), [(0, 0.75)]);
    for head in ["classify", "classify:logits", "classify:probabilities", "embed"] {
        assert_eq!(head.parse::<Head>().unwrap().to_string(), head);
    }
    assert!("embed:logits".parse::<Head>().is_err() && "classify:points=3".parse::<Head>().is_err());
    let found = decode("embed", &[output("o", &[3], vec![1.0, -2.0, 0.5])]);
    assert_eq!((found.len(), &found[0].embedding[..]), (1, &[1.0, -2.0, 0.5][..]));
}

#[test]
fn masks_are_sums_of_prototypes() {
    // Two prototypes of 4 x 4: the left half, and everything.
    let left: Vec<f32> = (0..16).map(|i| if i % 4 < 2 { 1.0 } else { 0.0 }).collect();
    let protos = || output("output1", &[2, 4, 4], [left.clone(), vec![1.0; 16]].concat());
    let with_masks = |head: &str, objects: Output| {
        let mut found = decode(head, &[objects, protos()]);
        masks::attach(&mut found, &[output("o", &[1], vec![0.0]), protos()], (32, 32));
        found
    };
    // The left half less a half of everything: 0.5 there, -0.5 elsewhere, 0 in the middle between.
    let v8: Vec<f32> = vec![16.0, 16.0, 24.0, 16.0, 0.1, 0.9, 1.0, -0.5];
    let v5 = output("o", &[1, 9], vec![16.0, 16.0, 24.0, 16.0, 1.0, 0.1, 0.9, 1.0, -0.5]);
    let end = output("o", &[1, 8], vec![4.0, 8.0, 28.0, 24.0, 0.9, 1.0, 1.0, -0.5]);
    for (head, objects) in [("yolov8", output("o", &[8, 1], v8)), ("yolov5", v5), ("end2end", end)] {
        let found = with_masks(head, objects);
        one(&found, 1, 0.9, [4.0, 8.0, 28.0, 24.0]);
        let patch = found[0].mask.as_ref().unwrap();
        assert!(patch.has(4.5, 9.0) && patch.has(15.9, 20.0), "{head}: {patch:?}");
        assert!(!patch.has(16.1, 20.0) && !patch.has(27.0, 9.0), "{head}: {patch:?}");
    }
}

#[test]
fn pictures_as_a_whole_are_recognised_or_asked_about() {
    let is = |name: &str, shape: &[i64], labels| {
        Head::recognise(&[declared(name, shape)], (224, 224), labels).map(|h| h.layout)
    };
    assert_eq!(is("x", &[1, 1000], 0).unwrap(), Layout::Classify);
    assert_eq!(is("x", &[-1, 7], 7).unwrap(), Layout::Classify);
    assert_eq!(is("probs", &[1, 7, 1, 1], 0).unwrap(), Layout::Classify);
    assert_eq!(is("image_embeds", &[1, 512], 0).unwrap(), Layout::Embed);
    let e = is("Identity:0", &[1, 256], 0).unwrap_err();
    assert!(e.message.contains("256 values") && e.message.contains("classify or embed"), "{e}");
    let seg = |objects: &[i64]| {
        let outputs = [declared("output0", objects), declared("output1", &[1, 32, 160, 160])];
        Head::recognise(&outputs, (640, 640), 0).map(|h| (h.layout, h.classes(&outputs)))
    };
    assert_eq!(seg(&[1, 25200, 117]).unwrap(), (Layout::Yolov5, Some(80)));
    assert_eq!(seg(&[1, 116, 8400]).unwrap(), (Layout::Yolov8, Some(80)));
    assert_eq!(seg(&[1, 300, 38]).unwrap(), (Layout::End2end, None));
}
