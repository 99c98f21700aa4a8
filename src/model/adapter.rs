//! Low-rank maps beside the linear maps of a decoder: out += scale · (x Aᵀ) Bᵀ, and their gradients.

use std::ops::Range;

use super::config::Config;
use super::forward::take;
use super::kernels::{View, multiply};
use super::layout::{LayerLayout, Linear};
use crate::data::random::Random;

/// The linear maps of a block that are computed in one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    Query,
    KeyValue,
    Output,
    GateUp,
    Down,
}

/// Number of [`Map`]s.
pub(super) const MAPS: usize = 5;
/// All of them.
pub(super) const ALL_MAPS: [Map; MAPS] = [Map::Query, Map::KeyValue, Map::Output, Map::GateUp, Map::Down];

impl Map {
    /// Columns of its matrix.
    pub fn inputs(self, config: &Config) -> usize {
        match self {
            Map::Query | Map::KeyValue | Map::GateUp => config.width,
            Map::Output => config.query_width(),
            Map::Down => config.feed_forward,
        }
    }
}

/// Adapters of some linear maps: what a decoder computes with beside its frozen values.
#[derive(Clone, Debug, Default)]
pub struct Adapters {
    /// All adapters' A and B, back to back.
    pub values: Vec<f32>,
    /// Inner size.
    pub(super) rank: usize,
    pub(super) scale: f32,
    /// Share of each adapter's inputs that are dropped.
    pub(super) dropout: f64,
    /// Of each block and map.
    places: Vec<[Vec<Place>; MAPS]>,
}

/// Where the factors of one adapter stand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// The map's outputs that it adds to.
    pub outputs: Range<usize>,
    pub inputs: usize,
    /// (rank, inputs).
    pub a: Range<usize>,
    /// (outputs, rank).
    pub b: Range<usize>,
}

/// One adapter for [`Adapters::new`]: the linear map, and the places of A (rank, inputs) and B (outputs, rank).
pub type Adapted = (Linear, Range<usize>, Range<usize>);

impl Adapters {
    /// Adapters of these maps with the factor `scale`.
    pub fn new(config: &Config, maps: &[Adapted], rank: usize, scale: f32, dropout: f64, values: Vec<f32>) -> Self {
        let mut places: Vec<[Vec<Place>; MAPS]> = vec![Default::default(); config.layers];
        let (key, inner) = (config.key_width(), config.feed_forward);
        for (linear, a, b) in maps {
            let (map, first) = match linear.target {
                "q_proj" => (Map::Query, 0),
                "k_proj" => (Map::KeyValue, 0),
                "v_proj" => (Map::KeyValue, key),
                "o_proj" => (Map::Output, 0),
                "gate_proj" => (Map::GateUp, 0),
                "up_proj" => (Map::GateUp, inner),
                _ => (Map::Down, 0),
            };
            let outputs = first..first + linear.outputs;
            let place = Place { outputs, inputs: linear.inputs, a: a.clone(), b: b.clone() };
            places[linear.layer][map as usize].push(place);
        }
        Adapters { values, rank, scale, dropout, places }
    }

    /// The adapters of a map of a block.
    pub(super) fn places(&self, layer: usize, map: Map) -> &[Place] {
        &self.places[layer][map as usize]
    }

    /// Adds what the adapters of a map make of `input` (rows, inputs) to its `output` (rows, `stride` apart). `noise`
    /// decides which inputs are dropped.
    pub(super) fn add(&self, at: At, input: &[f32], output: &mut [f32], stride: usize) {
        let (mut low, mut kept) = (Vec::new(), Vec::new());
        for place in self.places(at.layer, at.map) {
            let rows = input.len() / place.inputs;
            let input = self.keep(at, place, input, &mut kept);
            self.lower(place, input, &mut low);
            let b = View::rows(&self.values[place.b.clone()], self.rank).transposed();
            let sizes = [rows, self.rank, place.outputs.len()];
            multiply(&mut output[place.outputs.start..], stride, View::rows(&low, self.rank), b, sizes, true);
        }
    }

    /// Adds what follows from `d_output` (rows, `stride` apart): to `d_input`, and to the `gradient` of the values.
    pub(super) fn backward(
        &self,
        at: At,
        (d_output, stride): (&[f32], usize),
        input: &[f32],
        d_input: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (mut low, mut d_low, mut kept, mut d_kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for place in self.places(at.layer, at.map) {
            let (rank, inputs, outputs) = (self.rank, place.inputs, place.outputs.len());
            let rows = input.len() / inputs;
            if rows == 0 {
                continue;
            }
            let (a, b) = (&self.values[place.a.clone()], &self.values[place.b.clone()]);
            let d_output = View::rows(&d_output[place.outputs.start..], stride);
            let factors = input;
            let input = self.keep(at, place, input, &mut kept);
            self.lower(place, input, &mut low);
            let of_b = &mut gradient[place.b.clone()];
            multiply(of_b, rank, d_output.transposed(), View::rows(&low, rank), [outputs, rows, rank], true);
            let d_low = take(&mut d_low, rows * rank); // (rows, rank)
            multiply(d_low, rank, d_output, View::rows(b, rank), [rows, outputs, rank], false);
            d_low.iter_mut().for_each(|value| *value *= self.scale);
            let (d_rows, of_a) = (View::rows(d_low, rank), &mut gradient[place.a.clone()]);
            multiply(of_a, inputs, d_rows.transposed(), View::rows(input, inputs), [rank, rows, inputs], true);
            let (a, sizes) = (View::rows(a, inputs), [rows, rank, inputs]);
            if self.dropout == 0.0 {
                multiply(d_input, inputs, d_rows, a, sizes, true);
                continue;
            }
            multiply(take(&mut d_kept, factors.len()), inputs, d_rows, a, sizes, false);
            self.drop(at, place, &mut d_kept);
            d_input.iter_mut().zip(&d_kept).for_each(|(sum, d)| *sum += d);
        }
    }

    /// `low` = scale · input Aᵀ (rows, rank).
    fn lower(&self, place: &Place, input: &[f32], low: &mut Vec<f32>) {
        let rows = input.len() / place.inputs;
        let low = take(low, rows * self.rank);
        let a = View::rows(&self.values[place.a.clone()], place.inputs).transposed();
        multiply(low, self.rank, View::rows(input, place.inputs), a, [rows, place.inputs, self.rank], false);
        low.iter_mut().for_each(|value| *value *= self.scale);
    }

    /// The input with some of it dropped and the rest enlarged, where anything is dropped at all.
    fn keep<'b>(&self, at: At, place: &Place, input: &'b [f32], kept: &'b mut Vec<f32>) -> &'b [f32] {
        if self.dropout == 0.0 || at.noise.is_none() {
            return input;
        }
        kept.clear();
        kept.extend_from_slice(input);
        self.drop(at, place, kept);
        kept
    }

    /// Multiplies what is dropped by 0 and the rest by 1 / (1 - dropout); equal for equal noise and place.
    pub(super) fn drop(&self, at: At, place: &Place, rows: &mut [f32]) {
        let Some(noise) = at.noise else { return };
        let mut random = Random::stream(noise, &[at.layer as u64, place.a.start as u64]);
        let (bound, factor) = ((self.dropout * 65536.0).round() as u64, (1.0 / (1.0 - self.dropout)) as f32);
        for values in rows.chunks_mut(4) {
            // Sixteen bits decide on each value.
            let bits = random.next_u64();
            for (index, value) in values.iter_mut().enumerate() {
                *value *= if (bits >> (16 * index)) & 0xFFFF < bound { 0.0 } else { factor };
            }
        }
    }
}

/// A map of a block, and what decides which inputs of its adapters are dropped; none are where there is no noise.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub layer: usize,
    pub map: Map,
    pub noise: Option<u64>,
}

impl LayerLayout {
    /// Place of the map's matrix (outputs, inputs).
    pub(super) fn map(&self, map: Map, config: &Config) -> Range<usize> {
        let Range { start, end } = self.query_key_value;
        let middle = start + config.query_width() * config.width;
        match map {
            Map::Query => start..middle,
            Map::KeyValue => middle..end,
            Map::Output => self.output.clone(),
            Map::GateUp => self.gate_up.clone(),
            Map::Down => self.down.clone(),
        }
    }
}
