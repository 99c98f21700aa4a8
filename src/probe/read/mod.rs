//! Reads files of activations, labels and texts: .npy, .npz, .safetensors and JSON by their content, never pickles.

mod array;
mod dense;
mod facts;
mod labels;
mod npy;
mod npz;
mod pool;
mod safetensors;
mod sparse;
#[cfg(test)]
mod tests;
mod texts;

use std::borrow::Cow;
use std::path::Path;

use crate::data::digest::Digest;
use crate::error::{Result, bail, ensure, nearest};
use crate::probe::matrix::Matrix;

pub use facts::{Facts, Measured, Measuring, Moment, Spread, measure};
pub use labels::{LabelTable, Labels, check_length, read_labels};
pub use texts::{Text, read_texts};

/// How a file of activations is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The array or tensor, where a file has several. Otherwise it is the one named `activations`, or the only one.
    pub array: Option<String>,
    /// The number of rows there must be. Latents of tokens need it where texts at the end have none.
    pub rows: Option<usize>,
    /// The number of columns there must be. Latents of tokens need it where the last features are never active.
    pub columns: Option<usize>,
    /// How latents of tokens become one row per text.
    pub pooling: Pooling,
}

/// How the tokens of a text are pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value of any token.
    #[default]
    Max,
    /// The mean over all tokens of the text, those where the latent is 0 among them.
    Mean,
}

impl Pooling {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Max => "max",
            Pooling::Mean => "mean",
        }
    }
}

/// A file of activations, read.
pub struct Activations {
    /// One row per text, one column per feature: sparse where less than 30 % of the values are not 0.
    pub matrix: Matrix,
    /// What it is like.
    pub facts: Facts,
    /// Sums over the rows, one per column.
    pub moments: Vec<Moment>,
    /// One per row: equal if and only if the rows' values are, also those of other files.
    pub row_digests: Vec<Digest>,
    /// Whether the file has an array `labels` as well, which [`read_labels`] reads.
    pub has_labels: bool,
    /// What was unusual about the file and mended, such as unsorted columns.
    pub notes: Vec<String>,
}

/// Reads activations from the content of a file; `name` is what errors call it, and its extension is a hint at most.
///
/// Understood are .npy (float16, float32, float64, either order of bytes and of storage), .npz (one such array, or a
/// matrix of `scipy.sparse.save_npz`) and .safetensors (a dense tensor, or latents of tokens: `locations` `[n, 3]` of
/// row, token and latent, and `activations` `[n]`). Beside the bytes there is one copy of the values in memory.
///
/// # Errors
/// A pickle, or another format; a file that is cut off; no two dimensions; NaN or infinity, with row and column; other
/// numbers of rows or columns than `options` say.
pub fn read_activations(name: &str, bytes: &[u8], options: &Options) -> Result<Activations> {
    let (matrix, notes, has_labels) = match recognize(name, bytes)? {
        Format::Npy => {
            let array = npy::read_npy(&format!("`{name}`"), Cow::Borrowed(bytes))?;
            if let Some(wanted) = &options.array {
                bail!("`{name}` has one array without a name, found `array` = `{wanted}`"; help: "leave out `array`");
            }
            (dense::read_dense(&array)?, Vec::new(), false)
        }
        Format::Npz => {
            let mut archive = npz::Archive::open(name, bytes)?;
            let (matrix, notes) = archive.matrix(options)?;
            (matrix, notes, archive.has("labels"))
        }
        Format::Safetensors => {
            let tensors = safetensors::Tensors::open(name, bytes)?;
            let (matrix, notes) = tensors.matrix(options)?;
            (matrix, notes, tensors.has("labels"))
        }
        Format::Other => bail!(
            "`{name}` is no file of activations, expected .npy, .npz or .safetensors";
            help: "save the activations with numpy.save or safetensors"
        ),
    };
    for (what, expected, found) in
        [("rows", options.rows, matrix.rows()), ("columns", options.columns, matrix.columns())]
    {
        if let Some(expected) = expected {
            ensure!(expected == found, "`{name}` has {found} {what}, expected {expected}");
        }
    }
    let Measured { facts, moments, row_digests } = measure(&format!("`{name}`"), &matrix)?;
    Ok(Activations { matrix, facts, moments, row_digests, has_labels, notes })
}

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    Safetensors,
    /// Text, or nothing that is known.
    Other,
}

/// First bytes of formats that are not read, what they are, and what to do.
const REFUSED: &[(&[u8], &str, &str)] = &[
    (b"\x89HDF", "HDF5", "save it as .npy or .safetensors"),
    (b"PAR1", "Parquet", "save it as .npy or .safetensors"),
    (b"ARROW1", "Arrow", "save it as .npy or .safetensors"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it: unzstd"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
];

fn recognize(name: &str, bytes: &[u8]) -> Result<Format> {
    let extension = Path::new(name).extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let pickled = matches!(bytes, [0x80, 2..=5, ..]) || matches!(extension.as_deref(), Some("pkl" | "pickle"));
    ensure!(
        !pickled, "`{name}` is a pickle, which can run code when it is opened"; help: "save it as .npy or .safetensors"
    );
    ensure!(!bytes.is_empty(), "`{name}` is empty"; help: "copy or write the file again");
    if let Some((_, what, help)) = REFUSED.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        bail!("`{name}` is {what}"; help: "{help}");
    }
    // A safetensors file begins with the length of its header, eight bytes, and the header is a JSON object.
    let header = bytes.get(8) == Some(&b'{') && bytes.get(5..8) == Some(&[0, 0, 0]);
    Ok(match extension.as_deref() {
        _ if bytes.starts_with(npy::MAGIC) => Format::Npy,
        _ if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") => Format::Npz,
        Some("safetensors") => Format::Safetensors,
        _ if header => Format::Safetensors,
        Some(extension @ ("npy" | "npz")) => {
            bail!("`{name}` does not begin as an .{extension} file does"; help: "copy or write the file again")
        }
        _ => Format::Other,
    })
}

/// The array to read: the one that is wanted, the one named `activations`, or the only one.
fn choose(name: &str, keys: &[&str], options: &Options) -> Result<String> {
    let listed = || keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = &options.array {
        if keys.contains(&wanted.as_str()) {
            return Ok(wanted.clone());
        }
        match nearest(wanted, keys.iter().copied()) {
            Some(near) => bail!("`{name}` has no array `{wanted}`"; help: "did you mean `{near}`?"),
            None => bail!("`{name}` has no array `{wanted}`"; help: "name one of these: {}", listed()),
        }
    }
    match keys {
        keys if keys.contains(&"activations") => Ok("activations".into()),
        [only] => Ok(only.to_string()),
        [] => bail!("`{name}` holds no activations, only labels"),
        _ => bail!(
            "`{name}` holds {} arrays and none is named `activations`", keys.len();
            help: "name one with `array`: {}", listed()
        ),
    }
}
