//! Reads tensors out of a .safetensors file: dense ones by name, or the sparse layout of SAE latents.

use std::borrow::Cow;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::Value;

use super::array::{Array, Element, Floats};
use super::pool::{Latents, pool};
use super::sparse::settle;
use super::{Options, choose, dense};
use crate::error::{Error, Result, bail, ensure};
use crate::probe::matrix::{Matrix, Values};

/// A file of tensors.
pub(super) struct Tensors<'a> {
    name: &'a str,
    tensors: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// A header that is none; more or fewer bytes than it promises.
    pub fn open(name: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| match (error, promised_bytes(bytes)) {
            (SafeTensorError::MetadataIncompleteBuffer, Some(promised)) => {
                let verb = if bytes.len() < promised { "is cut off" } else { "is too long" };
                let found = bytes.len();
                Error::input(format!("`{name}` {verb}: its header promises {promised} bytes, there are {found}"))
                    .with_help("copy or write the file again")
            }
            (error, _) => Error::input(format!("`{name}` is no readable safetensors file: {error}")),
        })?;
        ensure!(!tensors.is_empty(), "`{name}` holds no tensor");
        Ok(Tensors { name, tensors })
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, key: &str) -> bool {
        self.tensors.tensor(key).is_ok()
    }

    /// A tensor, not copied.
    pub fn array(&self, key: &str) -> Result<Array<'a>> {
        let name = format!("tensor `{key}` of `{}`", self.name);
        let tensor = self.tensors.tensor(key).map_err(|error| Error::input(format!("`{}`: {error}", self.name)))?;
        let element = match tensor.dtype() {
            Dtype::BOOL => Element::Bool,
            Dtype::U8 => Element::Unsigned(1),
            Dtype::U16 => Element::Unsigned(2),
            Dtype::U32 => Element::Unsigned(4),
            Dtype::U64 => Element::Unsigned(8),
            Dtype::I8 => Element::Signed(1),
            Dtype::I16 => Element::Signed(2),
            Dtype::I32 => Element::Signed(4),
            Dtype::I64 => Element::Signed(8),
            Dtype::F16 => Element::Float(2),
            Dtype::BF16 => Element::Brain,
            Dtype::F32 => Element::Float(4),
            Dtype::F64 => Element::Float(8),
            other => bail!("{name} holds {other}, expected F32, F64, F16 or BF16"; help: "save it as float32"),
        };
        let (shape, bytes) = (tensor.shape().to_vec(), Cow::Borrowed(tensor.data()));
        Ok(Array { name, element, big_endian: false, column_major: false, shape, bytes })
    }

    /// The activations: pooled latents where there are `locations`, else the tensor that `options` or its name makes
    /// out. Also what to tell about it.
    pub fn matrix(&self, options: &Options) -> Result<(Matrix, Vec<String>)> {
        if options.array.is_none() && self.has("locations") {
            return self.pooled_matrix(options);
        }
        let mut keys = self.tensors.names();
        keys.retain(|key| !["labels", "tokens"].contains(key));
        keys.sort();
        let array = self.array(&choose(self.name, &keys, options)?)?;
        Ok((dense::read_dense(&array)?, Vec::new()))
    }

    fn pooled_matrix(&self, options: &Options) -> Result<(Matrix, Vec<String>)> {
        let values = self.array("activations")?;
        let Floats::Narrow(values) = values.floats()? else {
            bail!("{} holds float64, expected float32, float16 or bfloat16", values.name)
        };
        let tokens = if self.has("tokens") { Some(self.array("tokens")?.matrix_shape()?) } else { None };
        let latents = Latents { locations: self.array("locations")?, values, tokens };
        let listed = latents.values.len();
        let (columns, rows) = pool(latents, options)?;
        let (matrix, mended) = settle(columns, rows, Values::Dense32, Values::Sparse32)?;
        let mut notes = vec![format!("{listed} latents were pooled over tokens by {}", options.pooling.name())];
        notes.extend(mended.notes());
        Ok((matrix, notes))
    }
}

/// The length of a file as its header has it.
fn promised_bytes(bytes: &[u8]) -> Option<usize> {
    let header = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let header = bytes.get(8..header.checked_add(8)?)?;
    let tensors: Value = serde_json::from_slice(header).ok()?;
    let ends = tensors.as_object()?.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    usize::try_from(ends.max().unwrap_or(0)).ok()?.checked_add(8 + header.len())
}
