//! How a batch of sequences lies on a device: rows back to back for the maps, sequences side by side for attention.

use candle_core::{Device, Tensor};

use crate::model::batch::Batch;
use crate::model::config::Config;
use crate::model::rotary::frequencies;

/// What is added to the score of a key that a query does not see; no infinity, because Metal computes as if there were none.
pub(super) const UNSEEN: f32 = -1e30;

/// Places of a batch, and what its positions mean to each kind of block.
pub(super) struct Frame {
    pub sequences: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// (sequences · longest): the row at each place, 0 where there is none.
    rows: Tensor,
    /// (sequences · longest, 1): 1 where there is a row, else 0.
    filled: Tensor,
    /// (rows): the place of each row.
    places: Tensor,
    /// Of blocks without a window, then of those with one.
    kinds: [Kind; 2],
}

/// What positions mean to a kind of block.
#[derive(Clone)]
pub(super) struct Kind {
    /// (rows, 1, channels of half a head).
    pub cosine: Tensor,
    pub sine: Tensor,
    /// (longest, longest): 0 where a query sees a key, else [`UNSEEN`]. Places without a row come last, where no
    /// row sees them.
    pub mask: Tensor,
}

impl Frame {
    pub fn new(config: &Config, batch: &Batch, device: &Device) -> candle_core::Result<Self> {
        let (sequences, longest) = (batch.bounds.len() - 1, batch.longest());
        let mut rows = vec![0u32; sequences * longest];
        let mut filled = vec![0f32; sequences * longest];
        let mut places = Vec::with_capacity(batch.ids.len());
        for (sequence, bounds) in batch.bounds.windows(2).enumerate() {
            for row in bounds[0]..bounds[1] {
                let place = sequence * longest + row - bounds[0];
                (rows[place], filled[place]) = (row as u32, 1.0);
                places.push(place as u32);
            }
        }
        let kind = |windowed: bool| -> candle_core::Result<Kind> {
            let (cosine, sine) = rotations(config, windowed, &batch.positions, device)?;
            let window = config.variant.window.filter(|_| windowed).unwrap_or(usize::MAX);
            let sees = |query: usize, key: usize| key <= query && query - key < window;
            let mask = (0..longest * longest).map(|at| match sees(at / longest, at % longest) {
                true => 0.0,
                false => UNSEEN,
            });
            let mask = Tensor::from_vec(mask.collect::<Vec<f32>>(), (longest, longest), device)?;
            Ok(Kind { cosine, sine, mask })
        };
        let (count, plain) = (rows.len(), kind(false)?);
        let windowed = if config.variant.window.is_some() { kind(true)? } else { plain.clone() };
        Ok(Frame {
            sequences,
            longest,
            rows: Tensor::from_vec(rows, count, device)?,
            filled: Tensor::from_vec(filled, (count, 1), device)?,
            places: Tensor::from_vec(places, batch.ids.len(), device)?,
            kinds: [plain, windowed],
        })
    }

    /// What positions mean to blocks with or without a window.
    pub fn kind(&self, windowed: bool) -> &Kind {
        &self.kinds[usize::from(windowed)]
    }

    /// Rows (rows, heads · width) side by side, (sequences, heads, longest, width), and 0 where there is none.
    pub fn spread(&self, rows: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
        let width = rows.dim(1)? / heads;
        let places = rows.contiguous()?.index_select(&self.rows, 0)?.broadcast_mul(&self.filled)?;
        let side_by_side =
            places.reshape((self.sequences, self.longest, heads, width))?.transpose(1, 2)?.contiguous()?;
        // Of one head, `contiguous` leaves strides that Metal's products misread.
        side_by_side.reshape((self.sequences, heads, self.longest, width))
    }

    /// The rows again.
    pub fn gather(&self, places: &Tensor) -> candle_core::Result<Tensor> {
        let (sequences, heads, longest, width) = places.dims4()?;
        let rows = places.transpose(1, 2)?.reshape((sequences * longest, heads * width))?;
        rows.index_select(&self.places, 0)
    }
}

/// Cosine and sine at these positions, (positions, 1, channels of half a head).
pub(super) fn rotations(
    config: &Config,
    windowed: bool,
    positions: &[u32],
    device: &Device,
) -> candle_core::Result<(Tensor, Tensor)> {
    let frequencies = frequencies(config, windowed);
    let angles = |function: fn(f64) -> f64| {
        let of_position =
            |position: &u32| frequencies.iter().map(|f| function(f64::from(*position) * f) as f32).collect::<Vec<_>>();
        let values: Vec<f32> = positions.iter().flat_map(of_position).collect();
        Tensor::from_vec(values, (positions.len(), 1, frequencies.len()), device)
    };
    Ok((angles(f64::cos)?, angles(f64::sin)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::processor::tests::tested;

    #[test]
    fn sequences_lie_side_by_side_with_plain_strides_and_come_back() {
        let mut batch = Batch::default();
        batch.push(&[1, 5, 9], [2]);
        batch.push(&[7], [0]);
        batch.push(&[4, 4, 4, 4], [3]);
        let device = tested().device().unwrap().unwrap();
        let frame = Frame::new(&tiny(), &batch, &device).unwrap();
        let rows = Tensor::arange(0f32, 8.0 * 6.0, &device).unwrap().reshape((8, 6)).unwrap();
        for heads in [1, 2, 3] {
            let spread = frame.spread(&rows, heads).unwrap();
            assert_eq!(spread.dims(), [3, heads, 4, 6 / heads]);
            let width = 6 / heads;
            assert_eq!(spread.stride(), [heads * 4 * width, 4 * width, width, 1]);
            let back = frame.gather(&spread).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(back, rows.to_vec2::<f32>().unwrap());
            // The second sequence has one token, and nothing behind it.
            let second = spread.get(1).unwrap().narrow(1, 1, 3).unwrap().abs().unwrap().sum_all().unwrap();
            assert_eq!(second.to_scalar::<f32>().unwrap(), 0.0);
        }
    }
}
