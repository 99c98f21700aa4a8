//! Makes one row per text out of the latents of its tokens, listed as (row, token, latent) and value.

use rayon::prelude::*;

use super::array::Array;
use super::{Options, Pooling};
use crate::error::{Error, Result, bail, ensure};
use crate::probe::matrix::Sparse;

/// Latents of tokens; what is not listed is 0.
pub(super) struct Latents<'a> {
    /// Row, token and latent of every value: `[values, 3]` whole numbers.
    pub locations: Array<'a>,
    pub values: Vec<f32>,
    /// Rows and tokens per row, where the file has them.
    pub tokens: Option<(usize, usize)>,
}

/// A listed value within its row.
#[derive(Clone, Copy, Default)]
struct Entry {
    latent: u32,
    token: u32,
    value: f32,
}

/// Number of columns, and the rows. There are as many rows and columns as `options` say, or rows as the file's tokens
/// have, or as the largest location needs; and as many tokens in a row as the file says, or as its last location needs.
///
/// # Errors
/// Locations that are no `[values, 3]` whole numbers, or lie outside of the rows, columns or tokens; the same location
/// twice; a value that is not finite.
pub(super) fn pool(latents: Latents, options: &Options) -> Result<(usize, Sparse<f32>)> {
    let Latents { locations, values, tokens } = latents;
    let name = &locations.name;
    ensure!(
        locations.shape == [values.len(), 3],
        "{name} has the shape {:?}, expected {:?}: row, token and latent of every \
         activation",
        locations.shape,
        [values.len(), 3]
    );
    let place = |index: usize, part: usize| -> Result<u32> {
        let found = locations.integer_at(3 * index + part);
        let found = found.ok_or_else(|| {
            Error::input(format!("{name} holds {}, expected whole numbers", locations.element.describe()))
        })?;
        u32::try_from(found).map_err(|_| Error::input(format!("{name} holds {found}, expected 0 to {}", u32::MAX)))
    };
    let mut needed = [0usize; 3];
    for (index, value) in values.iter().enumerate() {
        let at = [place(index, 0)?, place(index, 1)?, place(index, 2)?];
        (0..3).for_each(|part| needed[part] = needed[part].max(at[part] as usize + 1));
        ensure!(
            value.is_finite(), "{name} has {value} in row {}, token {}, latent {}", at[0], at[1], at[2];
            help: "mend or drop the row; rows, tokens and latents are counted from 0"
        );
    }
    let rows = options.rows.or(tokens.map(|tokens| tokens.0)).unwrap_or(needed[0]);
    let columns = options.columns.unwrap_or(needed[2]);
    ensure!(needed[0] <= rows, "{name} has row {}, expected rows 0 to below {rows}", needed[0] - 1);
    ensure!(needed[2] <= columns, "{name} has latent {}, expected latents 0 to below {columns}", needed[2] - 1);
    ensure!(rows > 0 && columns > 0, "{name} lists nothing"; help: "give `rows` and `columns` if all values are 0");
    if let Some((_, width)) = tokens {
        ensure!(needed[1] <= width, "{name} has token {}, expected tokens 0 to below {width}", needed[1] - 1);
    }

    let mut starts = vec![0usize; rows + 1];
    for index in 0..values.len() {
        starts[place(index, 0)? as usize + 1] += 1;
    }
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);
    let (mut next, mut entries) = (starts.clone(), vec![Entry::default(); values.len()]);
    for (index, value) in values.iter().enumerate() {
        let at = &mut next[place(index, 0)? as usize];
        entries[*at] = Entry { token: place(index, 1)?, latent: place(index, 2)?, value: *value };
        *at += 1;
    }
    drop(values);
    let mut slices = Vec::with_capacity(rows);
    let mut left = entries.as_mut_slice();
    for ends in starts.windows(2) {
        let (slice, rest) = left.split_at_mut(ends[1] - ends[0]);
        slices.push(slice);
        left = rest;
    }
    let width = tokens.map(|tokens| tokens.1);
    let pooled: Vec<_> = slices.into_par_iter().map(|row| pool_row(row, width, options.pooling)).collect();
    let mut result = Sparse { starts: vec![0], ..Sparse::default() };
    for (row, pooled) in pooled.into_iter().enumerate() {
        match pooled {
            Ok(pairs) => pairs.into_iter().for_each(|(latent, value)| {
                result.columns.push(latent);
                result.values.push(value);
            }),
            Err(Entry { token, latent, .. }) => {
                bail!("{name} lists row {row}, token {token}, latent {latent} twice"; help: "list each location once")
            }
        }
        result.starts.push(result.columns.len());
    }
    Ok((columns, result))
}

/// Latents of a row, ascending, with their pooled values, or the entry that is listed twice.
fn pool_row(row: &mut [Entry], width: Option<usize>, pooling: Pooling) -> Result<Vec<(u32, f32)>, Entry> {
    row.sort_unstable_by_key(|entry| (entry.latent, entry.token));
    let same = |a: &Entry, b: &Entry| (a.latent, a.token) == (b.latent, b.token);
    if let Some(pair) = row.windows(2).find(|pair| same(&pair[0], &pair[1])) {
        return Err(pair[0]);
    }
    let last = row.iter().map(|entry| entry.token as usize + 1).max().unwrap_or(0);
    let tokens = width.unwrap_or(last);
    let pooled = row.chunk_by(|a, b| a.latent == b.latent).map(|entries| {
        let unlisted = if entries.len() < tokens { 0.0 } else { f32::NEG_INFINITY };
        let value = match pooling {
            Pooling::Max => entries.iter().map(|entry| entry.value).fold(unlisted, f32::max),
            Pooling::Mean => (entries.iter().map(|entry| f64::from(entry.value)).sum::<f64>() / tokens as f64) as f32,
        };
        (entries[0].latent, value)
    });
    Ok(pooled.collect())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::array::Element;
    use super::*;

    fn pooled(
        locations: &[[u8; 3]],
        values: &[f32],
        tokens: Option<(usize, usize)>,
        options: &Options,
    ) -> Result<(usize, Sparse<f32>)> {
        let locations = Array {
            name: "`x`".into(),
            element: Element::Unsigned(1),
            big_endian: false,
            column_major: false,
            shape: vec![locations.len(), 3],
            bytes: Cow::Owned(locations.as_flattened().to_vec()),
        };
        pool(Latents { locations, values: values.to_vec(), tokens }, options)
    }

    #[test]
    fn tokens_are_pooled_and_what_is_not_listed_is_zero() {
        let locations = [[2, 3, 1], [0, 0, 4], [0, 1, 4], [0, 1, 0], [2, 0, 1]];
        let values = [1.0, 2.0, 6.0, -3.0, 5.0];
        let (columns, rows) = pooled(&locations, &values, None, &Options::default()).unwrap();
        // Latent 0 of row 0 is -3 at one of two tokens and 0 at the other.
        let expected = Sparse { starts: vec![0, 2, 2, 3], columns: vec![0, 4, 1], values: vec![0.0, 6.0, 5.0] };
        assert_eq!((columns, rows), (5, expected));
        let mean = Options { pooling: Pooling::Mean, rows: Some(4), columns: Some(9), ..Options::default() };
        let (columns, rows) = pooled(&locations, &values, None, &mean).unwrap();
        let expected = Sparse { starts: vec![0, 2, 2, 3, 3], columns: vec![0, 4, 1], values: vec![-1.5, 4.0, 1.5] };
        assert_eq!((columns, rows), (9, expected));
        let (_, rows) = pooled(&locations, &values, Some((3, 6)), &mean).unwrap();
        assert_eq!(rows.values, [-0.5, 8.0 / 6.0, 1.0]);
    }

    #[test]
    fn locations_that_cannot_be_are_refused() {
        let refuse = |locations: &[[u8; 3]], values: &[f32], options: &Options| {
            pooled(locations, values, None, options).unwrap_err().message
        };
        let few = Options { rows: Some(2), columns: Some(3), ..Options::default() };
        assert!(refuse(&[[2, 0, 0]], &[1.0], &few).contains("has row 2, expected rows 0 to below 2"));
        assert!(refuse(&[[0, 0, 3]], &[1.0], &few).contains("has latent 3"));
        assert!(refuse(&[[0, 0, 1], [0, 0, 1]], &[1.0, 2.0], &few).contains("row 0, token 0, latent 1 twice"));
        assert!(refuse(&[[1, 2, 0]], &[f32::NAN], &few).contains("has NaN in row 1, token 2, latent 0"));
        assert!(refuse(&[[1, 2, 0]], &[1.0, 2.0], &few).contains("has the shape [1, 3], expected [2, 3]"));
        assert!(refuse(&[], &[], &Options::default()).contains("lists nothing"));
    }
}
