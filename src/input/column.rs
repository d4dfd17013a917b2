//! Columns of many rows, held compactly: one text for all values and an offset each, or plain numbers and a bit each.
//!
//! A column is kept as text until every list is read, because only then its type is known; numbers pass through text
//! unchanged (the shortest text of a float reads back as the same float).

use std::fmt::Write;

use crate::sink::record::{Cell, ColumnType};

/// Many texts in one.
#[derive(Default)]
pub(super) struct Texts {
    text: String,
    ends: Vec<u64>,
}

impl Texts {
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u64);
    }

    /// Appends empty texts until there are `len`.
    pub fn pad(&mut self, len: usize) {
        if self.ends.len() < len {
            self.ends.resize(len, self.text.len() as u64);
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start as usize..self.ends[i] as usize]
    }

    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        self.text.capacity() + 8 * self.ends.capacity()
    }
}

/// One bit a row; rows beyond the last one set are false.
#[derive(Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, i: usize) {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn get(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }
}

/// A value that most rows may lack: takes no memory before the first row that has it.
pub(super) struct Late<T> {
    values: Vec<T>,
    missing: T,
}

impl<T: Copy + PartialEq> Late<T> {
    /// `missing` stands for no value; it can be no value itself.
    pub fn new(missing: T) -> Self {
        Late { values: Vec::new(), missing }
    }

    pub fn set(&mut self, row: usize, value: T) {
        self.values.resize(row + 1, self.missing);
        self.values[row] = value;
    }

    pub fn get(&self, row: usize) -> Option<T> {
        self.values.get(row).copied().filter(|value| *value != self.missing)
    }

    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>()
    }
}

/// A value as a list has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
    /// From a format without types: what it looks like counts. Empty is null.
    Untyped(&'a str),
}

impl<'a> Scalar<'a> {
    /// As text, written into `scratch` where it is not text already; `None` for null.
    pub fn text<'b>(self, scratch: &'b mut String) -> Option<&'b str>
    where
        'a: 'b,
    {
        scratch.clear();
        // Writing into a string cannot fail.
        let _ = match self {
            Scalar::Null | Scalar::Untyped("") => return None,
            Scalar::Text(text) | Scalar::Untyped(text) => return Some(text),
            Scalar::Boolean(value) => write!(scratch, "{value}"),
            Scalar::Integer(value) => write!(scratch, "{value}"),
            Scalar::Float(value) => write!(scratch, "{value:?}"),
        };
        Some(scratch)
    }

    fn kind(self) -> Option<ColumnType> {
        match self {
            Scalar::Null | Scalar::Untyped("") => None,
            Scalar::Boolean(_) => Some(ColumnType::Boolean),
            Scalar::Integer(_) => Some(ColumnType::Integer),
            Scalar::Float(_) => Some(ColumnType::Float),
            Scalar::Text(_) => Some(ColumnType::Text),
            Scalar::Untyped(text) => Some(looks_like(text)),
        }
    }
}

/// The type of a text in a format without types. Numbers with leading zeros, plus signs or more digits than 64 bits hold
/// are texts (identifiers, postcodes), for as numbers they would not come back as they were.
fn looks_like(text: &str) -> ColumnType {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let padded = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    let first = digits.bytes().next();
    if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        ColumnType::Boolean
    } else if matches!(text, "nan" | "NaN" | "inf" | "-inf") {
        ColumnType::Float
    } else if padded || text == "-0" || !first.is_some_and(|c| c.is_ascii_digit() || c == b'.') {
        ColumnType::Text
    } else if text.parse::<i64>().is_ok() {
        ColumnType::Integer
    } else if digits.contains(['.', 'e', 'E']) && text.parse::<f64>().is_ok_and(f64::is_finite) {
        ColumnType::Float
    } else {
        ColumnType::Text
    }
}

/// A column while lists are still read.
#[derive(Default)]
pub(super) struct Draft {
    texts: Texts,
    there: Bits,
    kinds: Vec<ColumnType>,
}

impl Draft {
    /// Sets the value of `row`, which is beyond all rows set so far.
    pub fn set(&mut self, row: usize, value: Scalar, scratch: &mut String) {
        let Some(text) = value.text(scratch) else { return };
        self.texts.pad(row);
        self.texts.push(text);
        self.there.set(row);
        if let Some(kind) = value.kind() {
            self.declare(kind);
        }
    }

    /// Notes that values may be of `kind`, also where there is none.
    pub fn declare(&mut self, kind: ColumnType) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
    }

    /// The column in the one type that holds all its values.
    pub fn finish(mut self) -> (ColumnType, Values) {
        use ColumnType::{Boolean, Float, Integer, Text};
        self.kinds.sort_by_key(|kind| *kind as u8);
        let Draft { mut texts, there, kinds } = self;
        let rows = texts.len();
        match kinds[..] {
            [Integer] => {
                let numbers = (0..rows).map(|i| texts.get(i).parse().unwrap_or_default()).collect();
                (Integer, Values::Integer(numbers, there))
            }
            [Float] | [Integer, Float] => {
                let numbers = (0..rows).map(|i| texts.get(i).parse().unwrap_or_default()).collect();
                (Float, Values::Float(numbers, there))
            }
            [Boolean] => {
                let mut set = Bits::default();
                (0..rows).filter(|i| texts.get(*i).eq_ignore_ascii_case("true")).for_each(|i| set.set(i));
                (Boolean, Values::Boolean(set, there))
            }
            _ => {
                texts.shrink();
                (Text, Values::Text(texts, there))
            }
        }
    }
}

/// A column's values and which of them are there.
pub(super) enum Values {
    Text(Texts, Bits),
    Integer(Vec<i64>, Bits),
    Float(Vec<f64>, Bits),
    Boolean(Bits, Bits),
}

impl Values {
    pub fn get(&self, row: usize) -> Cell {
        let (Values::Text(_, there) | Values::Integer(_, there) | Values::Float(_, there) | Values::Boolean(_, there)) =
            self;
        if !there.get(row) {
            return Cell::Null;
        }
        match self {
            Values::Text(texts, _) => Cell::Text(texts.get(row).into()),
            Values::Integer(numbers, _) => Cell::Integer(numbers[row]),
            Values::Float(numbers, _) => Cell::Float(numbers[row]),
            Values::Boolean(set, _) => Cell::Boolean(set.get(row)),
        }
    }

    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Values::Text(texts, there) => texts.heap_bytes() + 8 * there.0.capacity(),
            Values::Integer(numbers, there) => 8 * (numbers.capacity() + there.0.capacity()),
            Values::Float(numbers, there) => 8 * (numbers.capacity() + there.0.capacity()),
            Values::Boolean(set, there) => 8 * (set.0.capacity() + there.0.capacity()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[Scalar]) -> (ColumnType, Vec<Cell>) {
        let (mut draft, mut scratch) = (Draft::default(), String::new());
        values.iter().enumerate().for_each(|(i, value)| draft.set(i, *value, &mut scratch));
        let (kind, done) = draft.finish();
        (kind, (0..values.len()).map(|i| done.get(i)).collect())
    }

    #[test]
    fn types_are_those_that_hold_all_values() {
        use ColumnType::*;
        let text = |t: &str| Cell::Text(t.into());
        let u = Scalar::Untyped;
        assert_eq!(column(&[u("1"), u(""), u("-7")]), (Integer, vec![Cell::Integer(1), Cell::Null, Cell::Integer(-7)]));
        assert_eq!(column(&[u("1"), u("2.5"), u("1e3")]).0, Float);
        assert_eq!(column(&[u("1"), u("2.5")]).1, [Cell::Float(1.0), Cell::Float(2.5)]);
        assert_eq!(column(&[u("true"), u("False")]), (Boolean, vec![Cell::Boolean(true), Cell::Boolean(false)]));
        assert_eq!(column(&[u("True"), u("1")]), (Text, vec![text("True"), text("1")]));
        assert_eq!(column(&[u("1.50"), u("x")]), (Text, vec![text("1.50"), text("x")]));
        assert_eq!(column(&[u(""), u("")]), (Text, vec![Cell::Null, Cell::Null]));
        assert_eq!(
            column(&[Scalar::Integer(1), Scalar::Float(0.1), Scalar::Null]),
            (Float, vec![Cell::Float(1.0), Cell::Float(0.1), Cell::Null])
        );
        assert_eq!(column(&[Scalar::Text("1"), Scalar::Text("")]), (Text, vec![text("1"), text("")]));
        assert_eq!(column(&[Scalar::Boolean(true), Scalar::Float(2.0)]), (Text, vec![text("true"), text("2.0")]));
    }

    #[test]
    fn what_would_not_come_back_as_it_was_is_text() {
        for text in
            ["007", "-01", "+5", "00.5", "12345678901234567890", "12e4567", "1_000", "0x10", "-", ".", "-0", " 1"]
        {
            assert_eq!(looks_like(text), ColumnType::Text, "{text}");
        }
        for text in ["0", "-3", "9223372036854775807"] {
            assert_eq!(looks_like(text), ColumnType::Integer, "{text}");
        }
        for text in ["0.5", "-.5", "1e5", "nan", "-inf", "1."] {
            assert_eq!(looks_like(text), ColumnType::Float, "{text}");
        }
    }

    #[test]
    fn floats_pass_through_text_unchanged() {
        let floats = [0.1 + 0.2, f64::MIN_POSITIVE, 1e300, -0.0, f64::INFINITY, 5e-324];
        let cells = column(&floats.map(Scalar::Float)).1;
        for (cell, float) in cells.iter().zip(floats) {
            assert!(matches!(cell, Cell::Float(v) if v.to_bits() == float.to_bits()), "{cell:?} {float}");
        }
    }

    #[test]
    fn gaps_are_null() {
        let (mut draft, mut scratch) = (Draft::default(), String::new());
        draft.set(3, Scalar::Integer(4), &mut scratch);
        draft.set(70, Scalar::Integer(5), &mut scratch);
        let (_, values) = draft.finish();
        let there: Vec<usize> = (0..200).filter(|i| values.get(*i) != Cell::Null).collect();
        assert_eq!(there, [3, 70]);
        assert_eq!(values.get(70), Cell::Integer(5));
    }
}
