//! The cache files of the experiment, as bytes: activations and labels in numpy's format, labels as JSON.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::matrix::{Matrix, Values};
use crate::error::{Error, Result, ensure};

/// Writes a matrix as an .npy file that `numpy.load` reads, dense, rows one after another: `<f4` for f32 values and
/// `<f8` for f64 ones, so that nothing is rounded. A sparse matrix is spread out row by row, never as a whole.
///
/// # Errors
/// What the writer reports.
pub fn write_npy(matrix: &Matrix, out: &mut impl Write) -> Result<()> {
    let wide = matches!(matrix.values(), Values::Dense64(_) | Values::Sparse64(_));
    let shape = format!("({}, {})", matrix.rows(), matrix.columns());
    out.write_all(&header(if wide { "<f8" } else { "<f4" }, matrix.rows(), &shape))?;
    let size = if wide { 8 } else { 4 };
    let mut row_bytes = vec![0u8; matrix.columns() * size];
    for row in 0..matrix.rows() {
        let dense = row * matrix.columns()..(row + 1) * matrix.columns();
        match matrix.values() {
            Values::Dense32(all) => place(&mut row_bytes, all[dense].iter().map(|v| v.to_le_bytes()).enumerate()),
            Values::Dense64(all) => place(&mut row_bytes, all[dense].iter().map(|v| v.to_le_bytes()).enumerate()),
            Values::Sparse32(sparse) => {
                row_bytes.fill(0);
                place(&mut row_bytes, sparse.row(row).map(|(column, value)| (column, value.to_le_bytes())));
            }
            Values::Sparse64(sparse) => {
                row_bytes.fill(0);
                place(&mut row_bytes, sparse.row(row).map(|(column, value)| (column, value.to_le_bytes())));
            }
        }
        out.write_all(&row_bytes)?;
    }
    Ok(())
}

/// An .npy file of f32 rows that are written one by one, never together.
pub struct RowWriter<W: Write> {
    out: W,
    columns: usize,
    left: usize,
    bytes: Vec<u8>,
}

impl<W: Write> RowWriter<W> {
    /// Begins a file of so many rows.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn new(mut out: W, rows: usize, columns: usize) -> Result<Self> {
        out.write_all(&header("<f4", rows, &format!("({rows}, {columns})")))?;
        Ok(RowWriter { out, columns, left: rows, bytes: Vec::new() })
    }

    /// Writes the next row.
    ///
    /// # Errors
    /// A row of another length, one too many, and what the writer reports.
    pub fn push(&mut self, row: &[f32]) -> Result<()> {
        ensure!(row.len() == self.columns && self.left > 0, "a row of {} values has no place in the file", row.len());
        self.bytes.clear();
        self.bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        self.out.write_all(&self.bytes)?;
        self.left -= 1;
        Ok(())
    }

    /// The writer, once all rows are there.
    ///
    /// # Errors
    /// Rows that are missing.
    pub fn finish(self) -> Result<W> {
        ensure!(self.left == 0, "{} rows of a file are missing", self.left);
        Ok(self.out)
    }
}

/// Writes labels as an .npy file of int64, 1 for true.
///
/// # Errors
/// What the writer reports.
pub fn write_label_npy(labels: &[bool], out: &mut impl Write) -> Result<()> {
    out.write_all(&header("<i8", labels.len(), &format!("({},)", labels.len())))?;
    let bytes: Vec<u8> = labels.iter().flat_map(|label| i64::from(*label).to_le_bytes()).collect();
    out.write_all(&bytes)?;
    Ok(())
}

/// What a label file says beside the labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelFileOptions {
    /// Tokens of each text, one per label; left out of the file when missing.
    pub token_counts: Option<Vec<u32>>,
    /// Model, layer and the like, as an object.
    pub extraction_config: BTreeMap<String, Value>,
}

/// The text of a `{name}_labels.json` in the layout of the experiment: labels, unique_labels (sorted), label_counts,
/// n_samples, token_counts, extraction_config.
///
/// # Errors
/// Token counts whose number is not that of the labels.
pub fn label_json(labels: &[&str], options: &LabelFileOptions) -> Result<String> {
    if let Some(counts) = &options.token_counts {
        ensure!(counts.len() == labels.len(), "{} token counts for {} labels", counts.len(), labels.len();
            help: "give one token count per label");
    }
    let mut label_counts = BTreeMap::new();
    labels.iter().for_each(|label| *label_counts.entry(*label).or_insert(0) += 1);
    let file = LabelFile {
        labels,
        unique_labels: label_counts.keys().copied().collect(),
        label_counts,
        n_samples: labels.len(),
        token_counts: options.token_counts.as_deref(),
        extraction_config: &options.extraction_config,
    };
    let text = serde_json::to_string_pretty(&file);
    text.map_err(|error| Error::internal(format!("labels cannot be written: {error}")))
}

#[derive(Serialize)]
struct LabelFile<'a> {
    labels: &'a [&'a str],
    unique_labels: Vec<&'a str>,
    label_counts: BTreeMap<&'a str, usize>,
    n_samples: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_counts: Option<&'a [u32]>,
    extraction_config: &'a BTreeMap<String, Value>,
}

/// The header of format 1.0, byte for byte as numpy writes it: room for a first axis of 21 digits, padded to 64 bytes.
fn header(kind: &str, rows: usize, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    let room = 21 - rows.to_string().len();
    text.push_str(&" ".repeat(room));
    let before = 10;
    let padding = 64 - (before + text.len() + 1) % 64;
    text.push_str(&" ".repeat(padding));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

fn place<const SIZE: usize>(row: &mut [u8], values: impl Iterator<Item = (usize, [u8; SIZE])>) {
    let (cells, _) = row.as_chunks_mut();
    values.for_each(|(column, value)| cells[column] = value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::Sparse;

    /// numpy 2.4.6: `numpy.lib.format.write_array_header_1_0` for these, without the spaces before the line's end.
    #[test]
    fn headers_equal_numpy() {
        let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2689, 16384), }";
        let found = header("<f4", 2689, "(2689, 16384)");
        assert_eq!(found.len(), 128);
        assert_eq!(&found[..10], b"\x93NUMPY\x01\x00v\x00");
        assert_eq!(&found[10..10 + dict.len()], dict.as_bytes());
        assert!(found[10 + dict.len()..127].iter().all(|byte| *byte == b' ') && found[127] == b'\n');
    }

    #[test]
    fn sparse_and_dense_give_the_same_file() {
        let sparse = Sparse { starts: vec![0, 1, 1, 3], columns: vec![1, 0, 2], values: vec![1.5f32, 2.0, 3.0] };
        let sparse = Matrix::new(3, 3, Values::Sparse32(sparse)).unwrap();
        let dense = vec![0.0f32, 1.5, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 3.0];
        let bytes = |matrix: &Matrix| {
            let mut out = Vec::new();
            write_npy(matrix, &mut out).unwrap();
            out
        };
        let found = bytes(&sparse);
        assert_eq!(found, bytes(&Matrix::new(3, 3, Values::Dense32(dense.clone())).unwrap()));
        assert_eq!(found[128..].as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect::<Vec<_>>(), dense);
        let wide = Matrix::new(1, 2, Values::Dense64(vec![0.1, -0.0])).unwrap();
        assert_eq!(bytes(&wide)[128..], [0.1f64.to_le_bytes(), (-0.0f64).to_le_bytes()].concat());
    }

    #[test]
    fn rows_one_by_one_are_the_file_of_all() {
        let values = [1.5f32, -0.0, 3.0, 1e-40, 2.0, 7.0];
        let mut whole = Vec::new();
        write_npy(&Matrix::new(2, 3, Values::Dense32(values.to_vec())).unwrap(), &mut whole).unwrap();
        let mut writer = RowWriter::new(Vec::new(), 2, 3).unwrap();
        writer.push(&values[..3]).unwrap();
        assert!(writer.push(&values[..2]).is_err());
        writer.push(&values[3..]).unwrap();
        assert!(writer.push(&values[..3]).is_err());
        assert_eq!(writer.finish().unwrap(), whole);
        assert!(RowWriter::new(Vec::new(), 1, 3).unwrap().finish().is_err());
    }

    #[test]
    fn labels_are_counted() {
        let options = LabelFileOptions { token_counts: Some(vec![5, 6, 7]), ..LabelFileOptions::default() };
        let text = label_json(&["faking", "aligned", "faking"], &options).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "labels": ["faking", "aligned", "faking"], "unique_labels": ["aligned", "faking"],
            "label_counts": {"aligned": 1, "faking": 2}, "n_samples": 3, "token_counts": [5, 6, 7],
            "extraction_config": {},
        });
        assert_eq!(value, expected);
        assert!(label_json(&["faking"], &options).unwrap_err().message.starts_with("3 token counts for 1 labels"));
        let mut out = Vec::new();
        write_label_npy(&[true, false], &mut out).unwrap();
        assert_eq!(out[128..], [1i64.to_le_bytes(), 0i64.to_le_bytes()].concat());
        assert!(
            String::from_utf8_lossy(&out[10..128]).contains("'descr': '<i8', 'fortran_order': False, 'shape': (2,), }")
        );
    }
}
