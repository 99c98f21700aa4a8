//! Reads the header of an .npy file (format versions 1, 2 and 3) and finds its array.

use std::borrow::Cow;

use regex::Regex;

use super::array::{Array, Element};
use crate::error::{Error, Result, bail, ensure};

/// How every .npy file begins.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The array of an .npy file; `name` is what errors call it, quoted.
///
/// # Errors
/// A header that is none; elements that are Python objects, records, complex or otherwise no plain numbers or texts;
/// more or fewer bytes than the header promises.
pub(super) fn read_npy<'a>(name: &str, bytes: Cow<'a, [u8]>) -> Result<Array<'a>> {
    let (header, start) = find_header(name, &bytes)?;
    let field = |key: &str, pattern: &str| {
        let pattern = Regex::new(&format!(r#"['"]{key}['"]\s*:\s*{pattern}"#)).expect("the pattern is well formed");
        pattern.captures(&header).map(|found| found[1].to_string())
    };
    let incomplete =
        |key: &str| Error::input(format!("the header of {name} has no readable `{key}`: {}", header.trim()));
    let description = field("descr", r#"['"]([^'"]*)['"]"#).ok_or_else(|| {
        if header.contains('[') {
            return Error::input(format!("{name} is an array of records, expected plain numbers"))
                .with_help("save one field of it: array[\"field\"]");
        }
        incomplete("descr")
    })?;
    let order = field("fortran_order", "(True|False)").ok_or_else(|| incomplete("fortran_order"))?;
    let shape = field("shape", r"\(([0-9, ]*)\)").ok_or_else(|| incomplete("shape"))?;
    let lengths = shape.split(',').map(str::trim).filter(|length| !length.is_empty()).map(str::parse);
    let shape: Vec<usize> = lengths.collect::<Result<_, _>>().map_err(|_| incomplete("shape"))?;
    let (element, big_endian) = parse_element(name, &description)?;

    let needed = Array::bytes_needed(&element, &shape).and_then(|needed| needed.checked_add(start));
    let Some(needed) = needed else { bail!("the header of {name} promises an impossible shape, {shape:?}") };
    ensure!(
        bytes.len() >= needed, "{name} is cut off: its header promises {needed} bytes, there are {}", bytes.len();
        help: "copy or write the file again"
    );
    ensure!(
        bytes.len() == needed, "{name} has more than one array: its header promises {needed} bytes, there are {}",
        bytes.len(); help: "save each array to a file of its own"
    );
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[start..]),
        Cow::Owned(mut bytes) => {
            bytes.drain(..start);
            Cow::Owned(bytes)
        }
    };
    Ok(Array { name: name.into(), element, big_endian, column_major: order == "True", shape, bytes })
}

/// The header's text and where the array begins.
fn find_header(name: &str, bytes: &[u8]) -> Result<(String, usize)> {
    ensure!(bytes.starts_with(MAGIC), "{name} does not begin as an .npy file does");
    let cut_off = || {
        Error::input(format!("{name} is cut off within its header: there are {} bytes", bytes.len()))
            .with_help("copy or write the file again")
    };
    let version = *bytes.get(6).ok_or_else(cut_off)?;
    let (length, start) = match version {
        1 => (bytes.get(8..10).map(|two| usize::from(two[0]) | usize::from(two[1]) << 8), 10),
        2 | 3 => {
            let four = bytes.get(8..12).and_then(|four| <[u8; 4]>::try_from(four).ok());
            (four.map(|four| u32::from_le_bytes(four) as usize), 12)
        }
        _ => bail!("{name} has version {version} of the .npy format, expected 1, 2 or 3"),
    };
    let end = length.and_then(|length| length.checked_add(start)).ok_or_else(cut_off)?;
    let header = bytes.get(start..end).ok_or_else(cut_off)?;
    Ok((String::from_utf8_lossy(header).into_owned(), end))
}

/// Reads numpy's name of a type: `<f4`, `>i8`, `|b1`, `<U15`.
fn parse_element(name: &str, description: &str) -> Result<(Element, bool)> {
    let unknown = || {
        Error::input(format!("{name} holds elements of type `{description}`, expected numbers or texts"))
            .with_help("save it as float32: array.astype(numpy.float32)")
    };
    let (order, rest) = description.split_at_checked(1).ok_or_else(unknown)?;
    ensure!(
        !rest.starts_with('O'), "{name} is a pickled object array, which can run code when it is opened";
        help: "save plain numbers: numpy.save(path, array.astype(numpy.float32)), or texts: array.astype(str)"
    );
    let (letter, width) = rest.split_at_checked(1).ok_or_else(unknown)?;
    let width: usize = width.parse().map_err(|_| unknown())?;
    let element = match (letter, width) {
        ("b", 1) => Element::Bool,
        ("i", 1 | 2 | 4 | 8) => Element::Signed(width),
        ("u", 1 | 2 | 4 | 8) => Element::Unsigned(width),
        ("f", 2 | 4 | 8) => Element::Float(width),
        ("U", width) if width.checked_mul(4).is_some() => Element::Text(width),
        ("S", _) => Element::Bytes(width),
        _ => return Err(unknown()),
    };
    match order {
        "<" | "|" => Ok((element, false)),
        ">" => Ok((element, true)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        let length = (header.len() as u32).to_le_bytes();
        bytes.extend_from_slice(&length[..if version == 1 { 2 } else { 4 }]);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        read_npy("`x.npy`", Cow::Borrowed(bytes)).unwrap_err().message
    }

    #[test]
    fn keys_may_come_in_any_order_and_with_any_quotes() {
        let header = r#"{"shape":(2,1),"fortran_order":True,"descr":">u2"}"#;
        for version in [1, 2, 3] {
            let bytes = npy(version, header, &[1, 2, 3, 4]);
            let array = read_npy("`x.npy`", Cow::Borrowed(&bytes)).unwrap();
            assert_eq!((array.element, array.big_endian, array.column_major), (Element::Unsigned(2), true, true));
            assert_eq!((array.shape, array.bytes.as_ref()), (vec![2, 1], &[1, 2, 3, 4][..]));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let header = |descr: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}");
        let plain = header("'<f4'");
        let total = 10 + plain.len() + 12;
        assert_eq!(
            message(&npy(1, &plain, &[0; 11])),
            format!("`x.npy` is cut off: its header promises {total} bytes, there are {}", total - 1)
        );
        assert!(message(&npy(1, &plain, &[0; 13])).contains("more than one array"));
        assert!(message(&npy(1, &plain, &[])[..40]).contains("cut off within its header"));
        assert!(message(&npy(1, &header("'|O'"), &[])).contains("is a pickled object array"));
        assert!(message(&npy(1, &header("[('a', '<f4')]"), &[])).contains("array of records"));
        assert!(message(&npy(1, &header("'<c8'"), &[0; 24])).contains("`<c8`"));
        assert!(message(&npy(9, &plain, &[0; 12])).contains("version 9"));
        assert!(message(&npy(1, "{'descr': '<f4', 'fortran_order': False}", &[])).contains("no readable `shape`"));
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 4000000000), }";
        assert!(message(&npy(1, huge, &[])).contains("impossible shape"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = read_npy("`x.npy`", Cow::Owned([MAGIC, &tail].concat()));
        }
    }
}
