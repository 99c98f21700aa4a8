//! Finite differences of the hand-written gradient, family by family and through taps.

use super::backward::{Scratch, backward_tapped};
use super::batch::Batch;
use super::forward::{Activations, Prepared, forward_edited};
use super::head::{self, Head, Target};
use super::processor::tests::tested;
use super::tap::{Change, Edit, Injection, Rows, Taps};
use super::variant::{FAMILIES, Family};
use super::weights::Weights;
use super::weights::tests::odd;
use crate::data::random::Random;

/// Loss of three sequences, plus the product of some states with given directions, and its gradient.
fn step(weights: &Weights, edits: &[Edit], injections: &[Injection]) -> (f64, Vec<f32>) {
    step_keeping(weights, usize::MAX, edits, injections)
}

/// The same, where so many values of blocks are kept for the way back.
fn step_keeping(weights: &Weights, most: usize, edits: &[Edit], injections: &[Injection]) -> (f64, Vec<f32>) {
    let (mut random, mut batch, mut targets) = (Random::new(12), Batch::default(), Vec::new());
    for length in [9, 1, 17] {
        let ids: Vec<u32> = (0..length).map(|_| random.below(37) as u32).collect();
        let outputs: Vec<usize> = (0..length).filter(|_| random.chance(0.6)).collect();
        targets.extend(outputs.iter().map(|_| Target { id: random.below(37) as u32, weight: random.uniform() as f32 }));
        batch.push(&ids, outputs);
    }
    let (prepared, mut activations) = (Prepared::new(weights).unwrap(), Activations::bounded(most));
    let (mut scratch, mut head, mut gradient) = (Scratch::default(), Head::default(), vec![0.0; weights.values.len()]);
    forward_edited(weights, &prepared, &batch, edits, &mut activations).unwrap();
    let mut loss =
        head::loss(weights, &prepared, activations.hidden(), &targets, &mut head, Some(&mut gradient)).unwrap();
    let cut = |injection: &Injection| {
        let state = activations.state(injection.state).unwrap();
        Injection { state: injection.state, gradient: injection.gradient[..state.len()].to_vec() }
    };
    let injections: Vec<Injection> = injections.iter().map(cut).collect();
    for injection in &injections {
        let state = activations.state(injection.state).unwrap().iter().zip(&injection.gradient);
        loss += state.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    }
    let taps = Taps { edits, injections: &injections };
    backward_tapped(weights, &prepared, &batch, &mut activations, &head.d_hidden, taps, &mut scratch, &mut gradient)
        .unwrap();
    (loss, gradient)
}

/// The slope along a random direction, tensor by tensor: a single value's difference drowns in rounding.
fn check(weights: &Weights, edits: &[Edit], injections: &[Injection]) {
    let (_, gradient) = step(weights, edits, injections);
    let mut random = Random::new(3);
    for tensor in weights.tensors() {
        let own = &gradient[tensor.range.clone()];
        let size = own.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let direction: Vec<f32> = own.iter().map(|_| random.normal() as f32).collect();
        let slope: f64 = own.iter().zip(&direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let at = |step_size: f32| {
            let mut moved = weights.clone();
            let values = moved.values[tensor.range.clone()].iter_mut().zip(&direction);
            values.for_each(|(value, part)| *value += step_size * part);
            step(&moved, edits, injections).0
        };
        // Four points, because in one-sided curvature two would not do at a step that rounding allows.
        let reach = 3e-4;
        let difference =
            (8.0 * (at(reach) - at(-reach)) - (at(2.0 * reach) - at(-2.0 * reach))) / (12.0 * f64::from(reach));
        let error = (slope - difference).abs();
        assert!(
            error < 0.03 * size + 1e-3,
            "{:?} {}: {slope} {difference} {size}",
            weights.config.variant.family,
            tensor.name
        );
        assert!(size > 1e-4, "{} has no gradient", tensor.name);
    }
}

#[test]
fn every_familys_gradient_agrees_with_differences() {
    for family in FAMILIES {
        check(&odd(family, 11), &[], &[]);
    }
}

/// A vector's direction, and marks of some of the rows.
fn direction_and_marks(vector: Vec<f32>) -> (Vec<f32>, Vec<bool>) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    (vector.iter().map(|value| value / norm).collect(), (0..27).map(|row| row % 3 != 1).collect())
}

#[test]
fn gradients_pass_through_edits_and_enter_at_states() {
    let mut random = Random::new(8);
    let mut noise = |count: usize| (0..count).map(|_| random.normal() as f32).collect::<Vec<f32>>();
    let (direction, marks) = direction_and_marks(noise(24));
    for family in [Family::Llama, Family::Gemma3] {
        for state in 0..=2 {
            let edits = [
                Edit { state, rows: Rows::Marked(marks.clone()), change: Change::Add(noise(24)) },
                Edit { state, rows: Rows::All, change: Change::Remove(vec![direction.clone()]) },
            ];
            let injections = [Injection { state, gradient: noise(27 * 24) }];
            check(&odd(family, 11), &edits, &injections);
        }
    }
}

#[test]
fn a_device_gives_the_same_loss_and_gradient() {
    let mut random = Random::new(8);
    let mut noise = |count: usize| (0..count).map(|_| random.normal() as f32).collect::<Vec<f32>>();
    let (direction, marks) = direction_and_marks(noise(24));
    for family in FAMILIES {
        let weights = odd(family, 11);
        for state in [None, Some(0), Some(1), Some(2)] {
            let edit = |rows: Rows, change: Change| state.map(|state| Edit { state, rows, change });
            let injections: Vec<Injection> =
                state.iter().map(|state| Injection { state: *state, gradient: noise(27 * 24) }).collect();
            let edits: Vec<Edit> = [
                edit(Rows::Marked(marks.clone()), Change::Add(noise(24))),
                edit(Rows::All, Change::Remove(vec![direction.clone()])),
                edit(Rows::Marked(marks.clone()), Change::Remove(vec![direction.clone()])),
                edit(Rows::All, Change::Add(noise(24))),
            ]
            .into_iter()
            .flatten()
            .collect();
            let (loss, gradient) = step(&weights, &edits, &injections);
            let (found, of_device) = step(&weights.clone().on(tested()), &edits, &injections);
            assert!((loss / found - 1.0).abs() < 1e-5, "{family:?} {state:?}: {found} is not {loss}");
            for tensor in weights.tensors() {
                let (own, found) = (&gradient[tensor.range.clone()], &of_device[tensor.range.clone()]);
                let size = own.iter().fold(0f32, |most, value| most.max(value.abs()));
                let error = own.iter().zip(found).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(size > 1e-6 && error < 1e-4 * size, "{family:?} {state:?} {}: {error} of {size}", tensor.name);
            }
        }
    }
}

#[test]
fn no_edit_and_a_zero_injection_change_no_bit() {
    let weights = odd(Family::Qwen3, 2);
    let injections = [Injection { state: 1, gradient: vec![0.0; 27 * 24] }];
    let unmarked = [Edit { state: 1, rows: Rows::Marked(vec![]), change: Change::Add(vec![1.0; 24]) }];
    assert_eq!(step(&weights, &[], &[]), step(&weights, &unmarked, &injections));
}

#[test]
fn blocks_that_are_computed_twice_give_the_same_bits() {
    for family in FAMILIES {
        let weights = odd(family, 5);
        assert_eq!(step_keeping(&weights, usize::MAX, &[], &[]), step_keeping(&weights, 0, &[], &[]), "{family:?}");
    }
}
