//! Where the passes over a model are computed, by the names that a project uses.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use candle_core::Device;
use serde::Deserialize;

use crate::ensure;
use crate::error::{Error, Result};

/// What computes the passes over a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Processor {
    /// This processor, by our own arithmetic.
    #[default]
    Cpu,
    /// This processor, by candle's arithmetic: what a GPU would compute, to compare with and to try things on.
    Candle,
    /// An NVIDIA GPU, counted from 0.
    Cuda(usize),
    /// A GPU of Apple's, counted from 0.
    Metal(usize),
}

/// The devices that are in use: tensors of one device must come from one handle.
static OPEN: Mutex<Vec<(Processor, Device)>> = Mutex::new(Vec::new());

impl Processor {
    /// Candle's device; none where our own arithmetic computes.
    ///
    /// # Errors
    /// A device that this program was not built for, or that this machine does not have.
    pub fn device(self) -> Result<Option<Device>> {
        if self == Processor::Cpu {
            return Ok(None);
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = open.iter().find(|(processor, _)| *processor == self) {
            return Ok(Some(device.clone()));
        }
        let device = self.open()?;
        open.push((self, device.clone()));
        Ok(Some(device))
    }

    /// Refuses a device that this program was not built for.
    pub fn check_built(self) -> Result<()> {
        let (feature, built) = match self {
            Processor::Cpu | Processor::Candle => return Ok(()),
            Processor::Cuda(_) => ("cuda", cfg!(feature = "cuda")),
            Processor::Metal(_) => ("metal", cfg!(feature = "metal")),
        };
        ensure!(
            built, "this drylab was built without `{feature}`";
            help: "build it with `--features {feature}`, or choose `--device cpu`"
        );
        Ok(())
    }

    fn open(self) -> Result<Device> {
        self.check_built()?;
        let device = match self {
            Processor::Cpu | Processor::Candle => Ok(Device::Cpu),
            // One stream for all threads: calls hand each other tensors, and `new_cuda` would order nothing between them.
            Processor::Cuda(index) => Device::new_cuda_with_stream(index),
            // Where there is no such GPU, candle panics.
            Processor::Metal(index) => std::panic::catch_unwind(|| Device::new_metal(index))
                .unwrap_or_else(|_| Err(candle_core::Error::Msg("there is no such GPU".to_string()))),
        };
        device.map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or("no reason was given");
            Error::environment(format!("`{self}` cannot be used: {reason}"))
                .with_help("look whether the driver sees it, or choose `--device cpu`")
        })
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Processor::Cpu => write!(f, "cpu"),
            Processor::Candle => write!(f, "candle"),
            Processor::Cuda(index) => write!(f, "cuda:{index}"),
            Processor::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

impl TryFrom<String> for Processor {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Processor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, index) = text.split_once(':').unwrap_or((text, "0"));
        let index = index.parse().ok();
        match (name, index) {
            ("cpu", _) if text == name => Ok(Processor::Cpu),
            ("candle", _) if text == name => Ok(Processor::Candle),
            ("cuda", Some(index)) => Ok(Processor::Cuda(index)),
            ("metal", Some(index)) => Ok(Processor::Metal(index)),
            // One sentence, because it stands within the errors of `drylab.toml` and of the command line.
            _ => Err(Error::input(format!(
                "there is no device `{text}`: choose `cpu`, `cuda`, `cuda:1`, `metal` or `candle`"
            ))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The device that is compared with our own arithmetic: `DRYLAB_TEST_DEVICE`, or candle's arithmetic on this
    /// processor.
    pub(crate) fn tested() -> Processor {
        std::env::var("DRYLAB_TEST_DEVICE").map_or(Processor::Candle, |name| name.parse().unwrap())
    }

    #[test]
    fn names_read_back_and_others_are_refused() {
        for text in ["cpu", "candle", "cuda:0", "cuda:3", "metal:1"] {
            assert_eq!(text.parse::<Processor>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Processor>().unwrap(), Processor::Cuda(0));
        for text in ["", "gpu", "cpu:1", "cuda:", "cuda:x", "candle:0", "CUDA"] {
            assert!(text.parse::<Processor>().is_err(), "{text}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_was_not_built_in_is_refused_with_the_way_to_build_it() {
        for (processor, feature) in [(Processor::Cuda(0), "cuda"), (Processor::Metal(0), "metal")] {
            let error = processor.device().unwrap_err();
            assert_eq!(error.message, format!("this drylab was built without `{feature}`"));
            assert!(error.help.unwrap().contains(&format!("--features {feature}")));
        }
        assert!(Processor::Cpu.device().unwrap().is_none() && Processor::Candle.device().unwrap().is_some());
    }
}
