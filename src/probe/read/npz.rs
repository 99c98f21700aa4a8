//! Reads arrays out of an .npz archive: dense ones by name, or the members of one sparse matrix as scipy saves it.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::array::{Array, Floats};
use super::npy;
use super::sparse::{Mended, check_starts, settle, transpose};
use super::{Options, choose};
use crate::error::{Error, Result, bail, ensure};
use crate::probe::matrix::{Matrix, Sparse, Values};

/// Deflate makes nothing smaller than a 1032nd of what it was.
const LARGEST_EXPANSION: u64 = 1032;

/// An archive of arrays.
pub(super) struct Archive<'a> {
    name: &'a str,
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Names of the arrays, without `.npy`, sorted.
    keys: Vec<String>,
}

impl<'a> Archive<'a> {
    /// Opens an archive; nothing is unpacked yet.
    ///
    /// # Errors
    /// No zip archive; a torch file, which is a zip with a pickle in it; no array inside.
    pub fn open(name: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            Error::input(format!("`{name}` is no whole zip archive: {error}")).with_help("copy or write the file again")
        })?;
        let mut keys = Vec::new();
        for member in zip.file_names() {
            let member = member.map_err(|error| Error::input(format!("`{name}`: {error}")))?;
            ensure!(
                !member.ends_with("data.pkl"), "`{name}` is a pickle, which can run code when it is opened";
                help: "save it as .npy or .safetensors"
            );
            keys.extend(member.strip_suffix(".npy").map(String::from));
        }
        keys.sort();
        ensure!(!keys.is_empty(), "`{name}` is a zip archive without an .npy array in it");
        Ok(Archive { name, bytes, zip, keys })
    }

    /// Whether there is an array of this name.
    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|found| found == key)
    }

    /// Unpacks an array; one that is stored without compression is not copied.
    pub fn array(&mut self, key: &str) -> Result<Array<'a>> {
        let described = format!("array `{key}` of `{}`", self.name);
        let broken = |error: &dyn std::fmt::Display| Error::input(format!("{described} cannot be read: {error}"));
        let member = format!("{key}.npy");
        let Some(index) = self.zip.index_for_name(&member) else { bail!("`{}` has no array `{key}`", self.name) };
        let entry = self.zip.by_index(index).map_err(|error| broken(&error))?;
        let size = entry.size();
        let stored = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
        if let Some(start) = entry.data_start().filter(|_| stored) {
            let range = usize::try_from(start).ok().zip(usize::try_from(start.saturating_add(size)).ok());
            let content = range.and_then(|(start, end)| self.bytes.get(start..end));
            let content = content.ok_or_else(|| broken(&"it ends after the end of the file"))?;
            return npy::read_npy(&described, Cow::Borrowed(content));
        }
        let likely = size.min(entry.compressed_size().saturating_mul(LARGEST_EXPANSION));
        let mut content = Vec::with_capacity(usize::try_from(likely).unwrap_or(0));
        entry.take(size).read_to_end(&mut content).map_err(|error| broken(&error))?;
        npy::read_npy(&described, Cow::Owned(content))
    }

    /// The activations: the sparse matrix where there is one, else the array that `options` or its name makes out.
    /// Also what to tell about it.
    pub fn matrix(&mut self, options: &Options) -> Result<(Matrix, Vec<String>)> {
        if options.array.is_none() && (self.has("format") || self.has("indptr")) {
            return self.sparse_matrix();
        }
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).filter(|key| *key != "labels").collect();
        let key = choose(self.name, &keys, options)?;
        let array = self.array(&key)?;
        Ok((super::dense::read_dense(&array)?, Vec::new()))
    }

    /// What `scipy.sparse.save_npz` writes.
    fn sparse_matrix(&mut self) -> Result<(Matrix, Vec<String>)> {
        let format = if self.has("format") { self.array("format")?.only_text() } else { Some("csr".into()) };
        let by_rows = match format.as_deref() {
            Some("csr") => true,
            Some("csc") => false,
            found => bail!(
                "`{}` holds a sparse matrix of format `{}`, expected `csr` or `csc`", self.name, found.unwrap_or("?");
                help: "convert it: scipy.sparse.save_npz(path, matrix.tocsr())"
            ),
        };
        let shape = self.array("shape")?.integers()?;
        let lengths = shape.iter().map(|length| usize::try_from(*length).ok().filter(|length| *length > 0));
        let (rows, columns) = match lengths.collect::<Option<Vec<usize>>>().as_deref() {
            Some([rows, columns]) if u32::try_from((*rows).max(*columns)).is_ok() => (*rows, *columns),
            _ => bail!("`{}` has the shape {shape:?}, expected rows and features, at least one of each", self.name),
        };
        let quoted = format!("`{}`", self.name);
        let (lines, across) = if by_rows { (rows, columns) } else { (columns, rows) };
        let starts = self.array("indptr")?.integers()?;
        let starts: Option<Vec<usize>> = starts.iter().map(|start| usize::try_from(*start).ok()).collect();
        let places = self.array("indices")?.places(across)?;
        let starts = starts.unwrap_or_default();
        let data = self.array("data")?;
        let values = data.length()?;
        ensure!(values == places.len(), "{quoted} has {values} values and {} indices", places.len());
        check_starts(&quoted, &starts, lines, values)?;
        let ((matrix, mended), notes) = match data.floats()? {
            Floats::Narrow(values) => {
                let sparse = Sparse { starts, columns: places, values };
                let sparse = if by_rows { sparse } else { transpose(rows, sparse) };
                (settle(columns, sparse, Values::Dense32, Values::Sparse32)?, by_rows)
            }
            Floats::Wide(values) => {
                let sparse = Sparse { starts, columns: places, values };
                let sparse = if by_rows { sparse } else { transpose(rows, sparse) };
                (settle(columns, sparse, Values::Dense64, Values::Sparse64)?, by_rows)
            }
        };
        Ok((matrix, tell(mended, notes)))
    }
}

fn tell(mended: Mended, by_rows: bool) -> Vec<String> {
    let mut notes = mended.notes();
    if !by_rows {
        notes.push("compressed columns (csc) were turned into rows".into());
    }
    notes
}
