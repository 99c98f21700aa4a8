//! An array as it lies in a file: what its elements are, its shape, and its bytes.

use std::borrow::Cow;

use crate::error::{Error, Result, bail, ensure};

/// What one element of an array is; widths in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// One byte, 0 or 1.
    Bool,
    /// A whole number of 1, 2, 4 or 8 bytes.
    Signed(usize),
    /// A whole number from 0 of 1, 2, 4 or 8 bytes.
    Unsigned(usize),
    /// IEEE 754 of 2, 4 or 8 bytes.
    Float(usize),
    /// bfloat16: the upper half of a float of 4 bytes.
    Brain,
    /// So many characters of UCS-4, filled up with zeros.
    Text(usize),
    /// So many bytes, filled up with zeros.
    Bytes(usize),
}

/// An array in a file. Its bytes are as many as its shape and element need.
#[derive(Debug)]
pub(super) struct Array<'a> {
    /// What errors call it, quoted: `` `x.npy` `` or `` array `labels` of `x.npz` ``.
    pub name: String,
    pub element: Element,
    pub big_endian: bool,
    /// Fortran order: column after column.
    pub column_major: bool,
    pub shape: Vec<usize>,
    pub bytes: Cow<'a, [u8]>,
}

/// One element that may be a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool(bool),
    Integer(i64),
    Text(String),
}

/// Numbers in the narrowest type that holds all of them exactly.
pub(super) enum Floats {
    Narrow(Vec<f32>),
    Wide(Vec<f64>),
}

impl Element {
    /// Bytes of one element.
    pub fn width(&self) -> usize {
        match self {
            Element::Bool => 1,
            Element::Brain => 2,
            Element::Signed(width) | Element::Unsigned(width) | Element::Float(width) | Element::Bytes(width) => *width,
            Element::Text(characters) => 4 * characters,
        }
    }

    /// What numpy calls it.
    pub fn describe(&self) -> String {
        match self {
            Element::Bool => "bool".into(),
            Element::Brain => "bfloat16".into(),
            Element::Signed(width) => format!("int{}", 8 * width),
            Element::Unsigned(width) => format!("uint{}", 8 * width),
            Element::Float(width) => format!("float{}", 8 * width),
            Element::Text(_) => "text".into(),
            Element::Bytes(_) => "bytes".into(),
        }
    }
}

impl Array<'_> {
    /// How many bytes a shape needs, `None` past what a machine can count.
    pub fn bytes_needed(element: &Element, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(element.width(), |product, length| product.checked_mul(*length))
    }

    /// Rows and columns of a matrix.
    pub fn matrix_shape(&self) -> Result<(usize, usize)> {
        match *self.shape.as_slice() {
            [0, _] | [_, 0] => bail!("{} is empty: its shape is {:?}", self.name, self.shape),
            [rows, columns] => Ok((rows, columns)),
            [_, _, _] => bail!(
                "{} has 3 dimensions, {:?}, expected 2: rows and features", self.name, self.shape;
                help: "pool over the tokens before saving, such as array.max(axis=1)"
            ),
            _ => bail!(
                "{} has {} dimensions, {:?}, expected 2: rows and features", self.name, self.shape.len(), self.shape;
                help: "save one row per text and one column per feature"
            ),
        }
    }

    /// Length of a list.
    pub fn length(&self) -> Result<usize> {
        match *self.shape.as_slice() {
            [length] | [length, 1] => Ok(length),
            _ => bail!("{} has the shape {:?}, expected one dimension", self.name, self.shape),
        }
    }

    /// The elements of one dimension as whole numbers.
    pub fn integers(&self) -> Result<Vec<i64>> {
        self.map_integers(|_, number| Ok(number))
    }

    /// The elements of one dimension as places in something of length `below`.
    pub fn places(&self, below: usize) -> Result<Vec<u32>> {
        self.map_integers(|index, place| match u32::try_from(place) {
            Ok(place) if (place as usize) < below => Ok(place),
            _ => bail!("{} holds {place} at {index}, expected 0 to below {below}", self.name),
        })
    }

    /// The whole number at `index`, whatever the dimensions; `None` where elements are no whole numbers, or above i64.
    pub fn integer_at(&self, index: usize) -> Option<i64> {
        let width = self.element.width();
        let mut wide = [0u8; 8];
        wide.get_mut(..width)?.copy_from_slice(self.bytes.get(index * width..(index + 1) * width)?);
        if self.big_endian {
            wide[..width].reverse();
        }
        let unused = 64 - 8 * width as u32;
        match self.element {
            Element::Signed(_) => Some((i64::from_le_bytes(wide) << unused) >> unused),
            Element::Unsigned(_) | Element::Bool => i64::try_from(u64::from_le_bytes(wide)).ok(),
            _ => None,
        }
    }

    /// The elements of one dimension as floats: halves and bfloat16 become f32, which holds them exactly.
    pub fn floats(&self) -> Result<Floats> {
        self.length()?;
        self.check_float()?;
        let (two, four, eight) =
            (self.bytes.as_chunks::<2>().0, self.bytes.as_chunks::<4>().0, self.bytes.as_chunks().0);
        let big = self.big_endian;
        let bits = |two: &[u8; 2]| if big { u16::from_be_bytes(*two) } else { u16::from_le_bytes(*two) };
        let narrow = |four: &[u8; 4]| if big { f32::from_be_bytes(*four) } else { f32::from_le_bytes(*four) };
        let wide = |eight: &[u8; 8]| if big { f64::from_be_bytes(*eight) } else { f64::from_le_bytes(*eight) };
        Ok(match self.element {
            Element::Brain => Floats::Narrow(two.iter().map(|two| widen_brain(bits(two))).collect()),
            Element::Float(2) => Floats::Narrow(two.iter().map(|two| widen_half(bits(two))).collect()),
            Element::Float(4) => Floats::Narrow(four.iter().map(narrow).collect()),
            _ => Floats::Wide(eight.iter().map(wide).collect()),
        })
    }

    /// Every whole number of one dimension, and its place, made into something.
    fn map_integers<T>(&self, make: impl Fn(usize, i64) -> Result<T>) -> Result<Vec<T>> {
        self.length()?;
        let signed = match self.element {
            Element::Bool | Element::Unsigned(_) => false,
            Element::Signed(_) => true,
            _ => bail!("{} holds {}, expected whole numbers", self.name, self.element.describe()),
        };
        match self.element.width() {
            1 => self.map_words::<1, T>(signed, make),
            2 => self.map_words::<2, T>(signed, make),
            4 => self.map_words::<4, T>(signed, make),
            _ => self.map_words::<8, T>(signed, make),
        }
    }

    fn map_words<const W: usize, T>(&self, signed: bool, make: impl Fn(usize, i64) -> Result<T>) -> Result<Vec<T>> {
        let unused = 64 - 8 * W as u32;
        let (words, _) = self.bytes.as_chunks::<W>();
        let numbers = words.iter().enumerate().map(|(index, word)| {
            let mut wide = [0u8; 8];
            wide[..W].copy_from_slice(word);
            if self.big_endian {
                wide[..W].reverse();
            }
            let number = if signed {
                (i64::from_le_bytes(wide) << unused) >> unused
            } else {
                let number = i64::try_from(u64::from_le_bytes(wide));
                number.map_err(|_| Error::input(format!("{} holds a number above {}", self.name, i64::MAX)))?
            };
            make(index, number)
        });
        numbers.collect()
    }

    /// The elements of one dimension as labels: truth values, whole numbers or texts.
    pub fn scalars(&self) -> Result<Vec<Scalar>> {
        let length = self.length()?;
        match self.element {
            Element::Bool => Ok(self.bytes.iter().map(|byte| Scalar::Bool(*byte != 0)).collect()),
            Element::Signed(_) | Element::Unsigned(_) => {
                Ok(self.integers()?.into_iter().map(Scalar::Integer).collect())
            }
            // An element without a character has no bytes to step over.
            Element::Text(0) | Element::Bytes(0) => Ok(vec![Scalar::Text(String::new()); length]),
            Element::Text(_) => self.bytes.chunks_exact(self.element.width()).map(|bytes| self.text(bytes)).collect(),
            Element::Bytes(width) => self.bytes.chunks_exact(width).map(|bytes| self.ascii(bytes)).collect(),
            Element::Float(_) | Element::Brain => bail!(
                "{} holds {}, expected whole numbers, truth values or texts", self.name, self.element.describe();
                help: "save the labels as integers: labels.astype(int)"
            ),
        }
    }

    /// The text of an array that holds only one, whatever its dimensions.
    pub fn only_text(&self) -> Option<String> {
        let found = match self.element {
            Element::Text(_) => self.text(&self.bytes),
            Element::Bytes(_) => self.ascii(&self.bytes),
            _ => return None,
        };
        match found {
            Ok(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn text(&self, bytes: &[u8]) -> Result<Scalar> {
        let (units, _) = bytes.as_chunks::<4>();
        let decode = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let characters = units.iter().map(|unit| decode(*unit)).take_while(|unit| *unit != 0).map(char::from_u32);
        let text: Option<String> = characters.collect();
        text.map(Scalar::Text).ok_or_else(|| Error::input(format!("{} holds text that is not Unicode", self.name)))
    }

    fn ascii(&self, bytes: &[u8]) -> Result<Scalar> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = std::str::from_utf8(&bytes[..end]);
        let text = text.map_err(|_| Error::input(format!("{} holds text that is not UTF-8", self.name)))?;
        Ok(Scalar::Text(text.into()))
    }

    /// Refuses elements that are no floating point numbers.
    pub fn check_float(&self) -> Result<()> {
        let float = matches!(self.element, Element::Float(_) | Element::Brain);
        ensure!(
            float, "{} holds {}, expected floating point numbers", self.name, self.element.describe();
            help: "save it as float32: array.astype(numpy.float32)"
        );
        Ok(())
    }
}

/// The value of a half-precision number; f32 holds every one of them exactly.
pub(super) fn widen_half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The exponent's bias grows from 15 to 127; the product is exact, also where the half is subnormal.
    let value = if bits & 0x7c00 == 0x7c00 {
        f32::from_bits(magnitude | 0x7f80_0000)
    } else {
        f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)
    };
    f32::from_bits(value.to_bits() | sign)
}

/// The value of a bfloat16 number, exactly.
pub(super) fn widen_brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(element: Element, bytes: &[u8]) -> Array<'_> {
        let shape = vec![bytes.len() / element.width()];
        let bytes = Cow::Borrowed(bytes);
        Array { name: "`x`".into(), element, big_endian: false, column_major: false, shape, bytes }
    }

    #[test]
    fn every_half_becomes_the_number_that_its_bits_say() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            let expected = if bits & 0x8000 == 0 { magnitude } else { -magnitude };
            let found = f64::from(widen_half(bits));
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:#06x}");
        }
        assert_eq!(widen_brain(0x3fc0), 1.5);
    }

    #[test]
    fn whole_numbers_keep_their_sign_and_order_of_bytes() {
        assert_eq!(array(Element::Signed(2), &[0xff, 0xff, 0, 1]).integers().unwrap(), [-1, 256]);
        assert_eq!(array(Element::Unsigned(2), &[0xff, 0xff]).integers().unwrap(), [65535]);
        let swapped = Array { big_endian: true, ..array(Element::Signed(4), &[0, 0, 1, 2]) };
        assert_eq!(swapped.integers().unwrap(), [258]);
        assert!(array(Element::Unsigned(8), &[0xff; 8]).integers().is_err());
    }

    #[test]
    fn places_outside_are_named() {
        let error = array(Element::Signed(1), &[0, 3, 0xfe]).places(9).unwrap_err();
        assert_eq!(error.message, "`x` holds -2 at 2, expected 0 to below 9");
    }

    #[test]
    fn texts_end_where_their_zeros_begin() {
        let text = array(Element::Text(2), &[b'a', 0, 0, 0, 0, 0, 0, 0, 0xe9, 0, 0, 0, b'b', 0, 0, 0]);
        assert_eq!(text.scalars().unwrap(), [Scalar::Text("a".into()), Scalar::Text("éb".into())]);
        assert_eq!(array(Element::Bytes(4), b"csr\0").only_text().unwrap(), "csr");
    }
}
