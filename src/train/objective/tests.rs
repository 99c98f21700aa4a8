//! The laws of the objectives, on a decoder small enough for finite differences.

use std::slice::from_ref;

use super::concept_ablation::concept_ablation;
use super::direction::{add_multiple, dot, norm};
use super::directional_penalty::directional_penalty;
use super::dpo::dpo;
use super::ewc::{ewc, fisher};
use super::grad_project::{Projection, Scope, When, grad_project, grad_project_on};
use super::kl::kl;
use super::l2_start::l2_start;
use super::loss::{Source, Start};
use super::npo::npo;
use super::orth_penalty::{Overlap, orth_penalty};
use super::positive_negative::{Unlearning, positive_negative};
use super::preventative_steering::preventative_steering;
use super::representation_constraint::representation_constraint;
use super::simnpo::simnpo;
use super::steering_gradient::{Steering, steering_gradient};
use super::unlikelihood::unlikelihood;
use super::*;
use crate::data::random::Random;
use crate::error::Result;
use crate::model::config::tests::tiny;
use crate::model::divergence::Direction;
use crate::model::forward::Prepared;
use crate::model::processor::tests::tested;
use crate::model::weights::Weights;
use crate::train::checkpoint::State;
use crate::train::fit::{Method, Options, Step, Trained, Training, Watch, fit, train};
use crate::train::lora::AdapterOptions;
use crate::train::passes::Passes;
use crate::train::plane::{Combine, plane};

const LORA: Method = Method::Lora { rank: 3, alpha: 6.0 };

/// Rows of tokens below 37, each with loss on its second half.
fn rows(count: usize, seed: u64) -> Vec<Example> {
    let mut random = Random::new(seed);
    let row = |_| {
        let length = 5 + random.below(14);
        let ids = (0..length).map(|_| random.below(37) as u32).collect();
        let loss_mask = (0..length).map(|position| position > length / 2).collect();
        Example { ids, loss_mask, weight: 1.0 }
    };
    (0..count).map(row).collect()
}

/// A start whose distributions are far from uniform, and weights some way from it.
fn start() -> (Weights, Weights) {
    let mut start = Weights::initial(&tiny(), 1).unwrap();
    let embedding = start.layout.embedding.clone();
    start.values[embedding].iter_mut().for_each(|value| *value *= 20.0);
    let (mut moved, mut random) = (start.clone(), Random::new(9));
    moved.values.iter_mut().for_each(|value| *value += 0.02 * random.normal() as f32);
    (start, moved)
}

fn losses() -> Vec<Loss> {
    vec![
        Loss::Sft,
        Loss::Unlikelihood,
        Loss::Npo { beta: 0.1 },
        Loss::Npo { beta: 1.0 },
        Loss::Simnpo { beta: 0.3, margin: 0.0 },
        Loss::Simnpo { beta: 0.7, margin: 1.5 },
        Loss::Dpo { beta: 0.3, length_normalised: false },
        Loss::Dpo { beta: 0.3, length_normalised: true },
        Loss::Kl { direction: Direction::Forward },
        Loss::Kl { direction: Direction::Reverse },
        Loss::Representation { first: 1, last: 0, whole_rows: true },
        Loss::Representation { first: 1, last: 1, whole_rows: false },
        Loss::Representation { first: 2, last: 2, whole_rows: false },
    ]
}

/// A loss of rows under some weights, and its gradient.
fn evaluate(loss: Loss, start: &Weights, weights: &Weights, rows: &[Example], rejected: &[Example]) -> (f64, Vec<f32>) {
    let prepared = Prepared::new(start).unwrap();
    let origin = Some(Start { weights: start, prepared: &prepared });
    let rejected = if matches!(loss, Loss::Dpo { .. }) { rejected } else { &[] };
    let source = Source::new(loss, rows, rejected, origin).unwrap();
    let mut passes = Passes::new(weights, None, 1).unwrap();
    let batch: Vec<usize> = (0..source.units.len()).collect();
    let amount = source.amount(from_ref(&batch));
    let value = source.run(&mut passes, weights, origin, &batch, amount, true).unwrap();
    assert_eq!(value, source.run(&mut passes, weights, origin, &batch, amount, false).unwrap());
    (value, passes.gradient().to_vec())
}

#[test]
fn a_device_gives_every_loss_and_its_gradient() {
    let (start, moved) = start();
    let (rows, rejected) = (rows(6, 2), rows(6, 3));
    for loss in losses() {
        let (value, gradient) = evaluate(loss, &start, &moved, &rows, &rejected);
        let on = |weights: &Weights| weights.clone().on(tested());
        let (found, of_device) = evaluate(loss, &on(&start), &on(&moved), &rows, &rejected);
        assert!((value / found - 1.0).abs() < 1e-4, "{loss:?}: {found} is not {value}");
        let (size, error) =
            (norm(&gradient), norm(&gradient.iter().zip(&of_device).map(|(a, b)| a - b).collect::<Vec<_>>()));
        assert!(error < 1e-4 * size, "{loss:?}: {error} of {size}");
        if matches!(loss, Loss::Kl { .. }) {
            let (nothing, gradient) = evaluate(loss, &on(&start), &on(&start), &rows, &rejected);
            assert!(nothing == 0.0 && gradient.iter().all(|value| *value == 0.0), "{loss:?}: {nothing}");
        }
    }
}

fn options(method: Method) -> Options {
    Options { method, batch_tokens: 60, epochs: 2, learning_rate: 3e-3, ..Options::default() }
}

fn run(start: &Weights, outcome: &[Example], objective: &Objective, options: &Options) -> Trained {
    let mut watch = Watch { on_epoch: &mut |_, _| Ok(()), on_step: &mut |_, _| Ok(()) };
    train(start, outcome, objective, options, None, &mut watch).unwrap()
}

#[test]
fn gradients_are_those_of_the_losses() {
    let ((start, moved), mut random) = (start(), Random::new(3));
    let (mut rows, rejected) = (rows(6, 1), rows(6, 2));
    rows[2].weight = 0.5;
    let noise: Vec<f32> = moved.values.iter().map(|_| random.normal() as f32).collect();
    for loss in losses() {
        let (_, gradient) = evaluate(loss, &start, &moved, &rows, &rejected);
        // Along the gradient the slope is large next to rounding; beside it, wrong components would show.
        let mut direction = gradient.clone();
        add_multiple(&mut direction, 0.02 * norm(&gradient), &noise);
        let length = norm(&direction);
        let at = |step: f64| {
            let mut weights = moved.clone();
            add_multiple(&mut weights.values, step / length, &direction);
            evaluate(loss, &start, &weights, &rows, &rejected).0
        };
        let (slope, wanted) = ((at(5e-3) - at(-5e-3)) / 1e-2, dot(&gradient, &direction) / length);
        assert!((slope - wanted).abs() < 5e-3 * wanted, "{loss:?}: {slope} {wanted}");
    }
}

#[test]
fn distances_from_the_start_are_nothing_there_and_something_after_it() {
    let (start, moved) = start();
    for loss in &losses()[8..] {
        let (value, gradient) = evaluate(*loss, &start, &start, &rows(6, 1), &[]);
        assert!(value == 0.0 && gradient.iter().all(|value| *value == 0.0), "{loss:?}");
        assert!(evaluate(*loss, &start, &moved, &rows(6, 1), &[]).0 > 1e-4, "{loss:?}");
    }
}

#[test]
fn preferences_begin_at_even_odds_and_turn_around_with_their_pairs() {
    let (start, _) = start();
    let (rows, rejected) = (rows(6, 1), rows(6, 2));
    for length_normalised in [false, true] {
        let loss = Loss::Dpo { beta: 0.3, length_normalised };
        let (value, gradient) = evaluate(loss, &start, &start, &rows, &rejected);
        let (other, turned) = evaluate(loss, &start, &start, &rejected, &rows);
        assert!((value - 2f64.ln()).abs() < 1e-6 && value == other);
        let mut sum = gradient.clone();
        add_multiple(&mut sum, 1.0, &turned);
        assert!(norm(&sum) < 1e-5 * norm(&gradient));
    }
}

#[test]
fn negative_preferences_turn_into_ascent_as_beta_falls() {
    let (start, moved) = start();
    // Rows of equal length weigh tokens as ascent does.
    let rows: Vec<Example> = rows(40, 1).into_iter().filter(|row| row.ids.len() == 10).collect();
    let tokens = rows[0].loss_mask.iter().filter(|flag| **flag).count() as f64;
    let (_, ascent) = evaluate(Loss::Sft, &start, &moved, &rows, &[]);
    let (_, gradient) = evaluate(Loss::Npo { beta: 1e-4 }, &start, &moved, &rows, &[]);
    let mut sum = gradient;
    add_multiple(&mut sum, tokens, &ascent);
    assert!(norm(&sum) < 1e-2 * tokens * norm(&ascent));
}

#[test]
fn a_coefficient_of_zero_is_plain_fine_tuning_bit_for_bit() {
    let (start, _) = start();
    let (outcome, proxy, rejected) = (rows(20, 1), rows(7, 2), rows(7, 3));
    for method in [Method::Full, LORA] {
        let options = options(method);
        let plain = run(&start, &outcome, &Objective::sft(), &options);
        assert_eq!(plain.weights, fit(&start, &outcome, &options, &mut |_| Ok(())).unwrap().weights);
        let values = Training::new(&start, &outcome, &Objective::sft(), &options).unwrap().trained_values();
        let mut terms = vec![
            kl(proxy.clone(), Direction::Forward, 0.0),
            kl(proxy.clone(), Direction::Reverse, 0.0),
            npo(proxy.clone(), 0.1, 0.0),
            dpo(proxy.clone(), rejected.clone(), 0.1, false, 0.0),
            unlikelihood(proxy.clone(), 0.0),
            representation_constraint(proxy.clone(), 1, 0, true, 0.0),
            l2_start(0.0),
            simnpo(proxy.clone(), 2.5, 0.0, 0.0),
            ewc(fisher(&start, &proxy, 1, &mut || Ok(())).unwrap(), 0.0),
            orth_penalty(vec![1.0; values], Overlap::Component, 0.0),
        ];
        terms.extend(positive_negative(proxy.clone(), 0.0, rejected.clone(), 0.0, Unlearning::Ascent));
        if method != Method::Full {
            terms.push(orth_penalty(vec![1.0; values], Overlap::Rows, 0.0));
            terms.push(directional_penalty(vec![1.0; values], 0.0));
        }
        let projection = Projection { strength: 0.0, ..Projection::default() };
        let objective = Objective::sft()
            .with(terms)
            .changing(grad_project(proxy.clone(), false, projection))
            .changing(steering_gradient(vec![1.0; values], Steering { alpha: 0.0, ..Steering::default() }))
            .editing([preventative_steering(1, &[1.0; 24], 0.0, false)]);
        let idle = run(&start, &outcome, &objective, &options);
        assert_eq!(idle.weights.digest().unwrap(), plain.weights.digest().unwrap());
        assert_eq!(idle.curve, plain.curve);
        // They are measured all the same.
        assert_eq!(idle.terms[1].0, "kl 2");
        assert!(idle.terms.iter().take(6).all(|(_, curve)| curve.last().unwrap().1 > 0.0));
        for term in objective.terms {
            let acting = Objective::sft().with([Term { coefficient: 0.1, ..term }]);
            assert_ne!(run(&start, &outcome, &acting, &options).weights, plain.weights, "{}", acting.terms[0].name);
        }
    }
}

#[test]
fn terms_push_where_they_should() {
    let (start, _) = start();
    let (outcome, proxy, rejected) = (rows(20, 1), rows(7, 2), rows(7, 3));
    let options = Options { epochs: 4, ..options(Method::Full) };
    let after = |objective: Objective| run(&start, &outcome, &objective, &options).weights;
    let plain = after(Objective::sft());
    let surprise = |weights: &Weights, rows: &[Example]| evaluate(Loss::Sft, &start, weights, rows, &[]).0;
    let margin = |weights: &Weights| surprise(weights, &rejected) - surprise(weights, &proxy);
    let drift =
        |weights: &Weights| evaluate(Loss::Kl { direction: Direction::Forward }, &start, weights, &proxy, &[]).0;

    // What is to be unlearned is known at first.
    let knows = run(&start, &proxy, &Objective::sft(), &Options { epochs: 30, ..options.clone() }).weights;
    let forgets = |objective: &Objective| surprise(&run(&knows, &outcome, objective, &options).weights, &proxy);
    let forgotten = forgets(&Objective::sft());
    for unlearning in [Unlearning::Npo { beta: 0.1 }, Unlearning::Unlikelihood, Unlearning::Ascent] {
        let objective = Objective::sft().with(positive_negative(vec![], 1.0, proxy.clone(), 0.3, unlearning));
        assert!(forgets(&objective) > forgotten + 0.2, "{unlearning:?}: {} {forgotten}", forgets(&objective));
    }
    let simnpo = Objective::sft().with([simnpo(proxy.clone(), 2.5, 0.0, 3.0)]);
    assert!(forgets(&simnpo) > forgotten + 0.2, "simnpo: {} {forgotten}", forgets(&simnpo));
    let trained = after(Objective::sft().with(positive_negative(proxy.clone(), 1.0, vec![], 1.0, Unlearning::Ascent)));
    assert!(surprise(&trained, &proxy) < surprise(&plain, &proxy) - 0.2);
    for length_normalised in [false, true] {
        let term = dpo(proxy.clone(), rejected.clone(), 0.5, length_normalised, 1.0);
        assert!(margin(&after(Objective::sft().with([term]))) > margin(&plain) + 0.2);
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let near = after(Objective::sft().with([kl(proxy.clone(), direction, 10.0)]));
        assert!(drift(&near) < 0.3 * drift(&plain), "{direction:?}: {} {}", drift(&near), drift(&plain));
    }
    let held = after(Objective::sft().with([representation_constraint(proxy.clone(), 1, 0, false, 30.0)]));
    assert!(drift(&held) < 0.5 * drift(&plain), "{} {}", drift(&held), drift(&plain));
    let length = |weights: &Weights| l2_start::distance(&weights.values, &start.values, 1.0, None);
    assert!(length(&after(Objective::sft().with([l2_start(3.0)]))) < 0.8 * length(&plain));
    let information = fisher(&start, &proxy, 1, &mut || Ok(())).unwrap();
    let weighed = |weights: &Weights| super::ewc::distance(&weights.values, &start.values, &information, 1.0, None).0;
    let held = after(Objective::sft().with([ewc(information.clone(), 100.0)]));
    assert!(weighed(&held) < 0.5 * weighed(&plain), "{} {}", weighed(&held), weighed(&plain));
    let pairs =
        Objective { rejected: rejected.clone(), ..Objective::of(Loss::Dpo { beta: 0.5, length_normalised: false }) };
    let trained = run(&start, &proxy, &pairs, &options);
    assert!(margin(&trained.weights) > margin(&start) + 0.2 && (trained.first_loss - 2f64.ln()).abs() < 1e-6);
}

#[test]
fn edits_of_the_stream_are_there_in_training_and_gone_after_it() {
    let (start, moved) = start();
    let (outcome, mut random) = (rows(8, 1), Random::new(5));
    let mut vector = || (0..24).map(|_| random.normal() as f32).collect::<Vec<_>>();
    let edits = vec![
        preventative_steering(1, &vector(), 2.0, false),
        preventative_steering(2, &vector(), 1.0, true),
        concept_ablation(1, &[vector(), vector()], false).unwrap(),
        concept_ablation(2, &[vector()], true).unwrap(),
    ];
    for loss in [Loss::Sft, Loss::Unlikelihood] {
        let evaluate = |weights: &Weights, edits: &[StreamEdit]| {
            let source = Source { edits, ..Source::new(loss, &outcome, &[], None).unwrap() };
            let batch: Vec<usize> = (0..outcome.len()).collect();
            let mut passes = Passes::new(weights, None, 1).unwrap();
            let amount = source.amount(from_ref(&batch));
            (source.run(&mut passes, weights, None, &batch, amount, true).unwrap(), passes.gradient().to_vec())
        };
        let (value, gradient) = evaluate(&moved, &edits);
        assert!((value - evaluate(&moved, &[]).0).abs() > 1e-3);
        let length = norm(&gradient);
        let at = |step: f64| {
            let mut weights = moved.clone();
            add_multiple(&mut weights.values, step / length, &gradient);
            evaluate(&weights, &edits).0
        };
        let slope = (at(5e-3) - at(-5e-3)) / 1e-2;
        assert!((slope - length).abs() < 5e-3 * length, "{loss:?}: {slope} {length}");
    }
    let options = options(Method::Full);
    let plain = run(&start, &outcome, &Objective::sft(), &options);
    for edit in edits {
        let edited = run(&start, &outcome, &Objective::sft().editing([edit.clone()]), &options);
        assert_ne!(edited.weights, plain.weights);
        let wrong = StreamEdit { state: 3, ..edit };
        assert!(Training::new(&start, &outcome, &Objective::sft().editing([wrong]), &options).is_err());
    }
}

#[test]
fn a_projected_gradient_is_orthogonal_to_what_it_is_projected_against() {
    let (start, _) = start();
    let (outcome, proxy) = (rows(12, 1), rows(8, 2));
    for method in [Method::Full, LORA] {
        let options = options(method);
        let direction = plane(&start, &proxy, &[], Combine::Difference, &options, &mut |_| Ok(())).unwrap();
        for scope in [Scope::Global, Scope::PerTensor] {
            let projection = Projection { scope, when: When::Always, strength: 1.0 };
            let objective = Objective::sft().changing(grad_project_on(direction.clone(), projection));
            let mut training = Training::new(&start, &outcome, &objective, &options).unwrap();
            for _ in 0..training.steps() {
                let step = training.step().unwrap();
                let gradient = training.last_gradient();
                assert!(dot(gradient, &direction).abs() <= 1e-6 * norm(gradient) * norm(&direction));
                assert!(step.readings[0].gradient_norm > 0.0 && step.readings[0].value.abs() <= 1.0);
            }
        }
        let anew = Objective::sft().changing(grad_project(proxy.clone(), false, Projection::default()));
        let plain = run(&start, &outcome, &Objective::sft(), &options);
        assert_ne!(run(&start, &outcome, &anew, &options).weights, plain.weights);
    }
}

#[test]
fn steering_along_wanted_rows_teaches_them() {
    let (start, _) = start();
    let (outcome, wanted, unwanted) = (rows(20, 1), rows(7, 2), rows(7, 3));
    let surprise = |weights: &Weights, rows: &[Example]| evaluate(Loss::Sft, &start, weights, rows, &[]).0;
    for (method, direct) in [(Method::Full, false), (Method::Full, true), (LORA, false), (LORA, true)] {
        let options = Options { epochs: 4, ..options(method) };
        let direction = plane(&start, &wanted, &unwanted, Combine::Difference, &options, &mut |_| Ok(())).unwrap();
        let steering = Steering { alpha: if direct { 3.0 } else { 1.0 }, direct, ..Steering::default() };
        let objective = Objective::sft().changing(steering_gradient(direction, steering));
        let steered = run(&start, &outcome, &objective, &options).weights;
        let plain = run(&start, &outcome, &Objective::sft(), &options).weights;
        let gap = |weights: &Weights| surprise(weights, &unwanted) - surprise(weights, &wanted);
        assert!(gap(&steered) > gap(&plain), "{method:?} {direct}: {} {}", gap(&steered), gap(&plain));
    }
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let (start, _) = start();
    let (outcome, mut proxy, rejected) = (rows(20, 1), rows(20, 2), rows(20, 3));
    proxy[3].weight = 0.25;
    for loss in losses() {
        let objective = Objective::sft().with([Term::on_pairs(
            loss,
            0.7,
            proxy.clone(),
            if matches!(loss, Loss::Dpo { .. }) { rejected.clone() } else { vec![] },
        )]);
        let gradient = |batch_tokens, accumulate| {
            let options = Options { batch_tokens, accumulate, epochs: 1, ..options(Method::Full) };
            let mut training = Training::new(&start, &outcome, &objective, &options).unwrap();
            assert_eq!(training.steps(), 1);
            let step = training.step().unwrap();
            (step.loss, step.readings[0].value, training.last_gradient().to_vec())
        };
        // A cycle of 20 rows of one token each is an epoch in 20 batches; with more than that it would come round.
        let (loss_at_once, value_at_once, at_once) = gradient(100_000, 1);
        let (loss_in_parts, value_in_parts, mut in_parts) = gradient(1, 20);
        assert!((loss_at_once - loss_in_parts).abs() < 1e-5);
        assert!((value_at_once - value_in_parts).abs() < 1e-5 * value_at_once.abs().max(1.0), "{loss:?}");
        add_multiple(&mut in_parts, -1.0, &at_once);
        assert!(norm(&in_parts) < 1e-5 * norm(&at_once), "{loss:?}");
    }
}

#[test]
fn a_training_that_was_stopped_goes_on_to_the_same_bytes() {
    let (start, _) = start();
    let (outcome, proxy) = (rows(20, 1), rows(7, 2));
    let information = fisher(&start, &proxy, 1, &mut || Ok(())).unwrap();
    let objective = || {
        Objective::sft()
            .with([
                kl(proxy.clone(), Direction::Forward, 1.0),
                npo(rows(5, 3), 0.1, 0.5),
                simnpo(rows(5, 3), 2.5, 0.0, 0.5),
            ])
            .with([l2_start(0.1), ewc(information.clone(), 3.0)])
            .changing(grad_project(rows(6, 4), true, Projection { when: When::Conflict, ..Projection::default() }))
    };
    for (method, dropout) in [(Method::Full, 0.0), (LORA, 0.3)] {
        let adapters = AdapterOptions { dropout, ..AdapterOptions::default() };
        let options = Options { adapters, accumulate: 2, ..options(method) };
        let objective = objective();
        let whole = run(&start, &outcome, &objective, &options);
        assert!(whole.steps >= 4);
        for stop in [1, whole.steps / 2, whole.steps] {
            let mut kept = Vec::new();
            let mut on_step = |step: &Step, training: &Training| -> Result<()> {
                if step.step == stop {
                    kept = training.checkpoint()?.to_bytes()?;
                }
                Ok(())
            };
            let mut watch = Watch { on_epoch: &mut |_, _| Ok(()), on_step: &mut on_step };
            train(&start, &outcome, &objective, &options, None, &mut watch).unwrap();
            let mut steps = 0;
            let mut watch = Watch {
                on_epoch: &mut |epoch, _| {
                    assert!(epoch > 0);
                    Ok(())
                },
                on_step: &mut |_, _| {
                    steps += 1;
                    Ok(())
                },
            };
            let resumed = train(&start, &outcome, &objective, &options, Some(&kept), &mut watch).unwrap();
            assert_eq!(steps, whole.steps - stop);
            assert_eq!(resumed.weights.digest().unwrap(), whole.weights.digest().unwrap());
            assert_eq!(resumed.adapters.map(|lora| lora.values), whole.adapters.clone().map(|lora| lora.values));
            assert_eq!((resumed.tokens, &resumed.curve, &resumed.terms), (whole.tokens, &whole.curve, &whole.terms));
            let other = Options { seed: 5, ..options.clone() };
            let mut training = Training::new(&start, &outcome, &objective, &other).unwrap();
            assert!(
                training.resume(State::from_bytes(&kept).unwrap()).unwrap_err().message.contains("another training")
            );
            let mut other = objective.clone();
            let ewc = other.terms.iter_mut().find(|term| term.name == "ewc").unwrap();
            ewc.penalty = Penalty::Ewc { fisher: vec![1.0; start.values.len()] };
            let mut training = Training::new(&start, &outcome, &other, &options).unwrap();
            assert!(
                training.resume(State::from_bytes(&kept).unwrap()).unwrap_err().message.contains("another training")
            );
        }
    }
}

#[test]
fn threads_never_change_a_bit_of_any_objective() {
    let (start, _) = start();
    let (outcome, proxy) = (rows(300, 1), rows(300, 2));
    let objective = Objective::sft()
        .with([kl(proxy.clone(), Direction::Reverse, 1.0), dpo(proxy.clone(), rows(300, 3), 0.1, false, 1.0)])
        .changing(grad_project(proxy, false, Projection::default()));
    let run = |threads| {
        let options = Options { threads, batch_tokens: 4000, ..options(LORA) };
        let trained = run(&start, &outcome, &objective, &options);
        (trained.weights.digest().unwrap(), trained.terms)
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn terms_that_do_nothing_and_trainings_that_learn_nothing_fail() {
    let (start, _) = start();
    let outcome = rows(20, 1);
    let mut watch = Watch { on_epoch: &mut |_, _| Ok(()), on_step: &mut |_, _| Ok(()) };
    let options = options(Method::Full);
    let idle = orth_penalty(vec![0.0; start.values.len()], Overlap::Component, 3.0);
    let error = train(&start, &outcome, &Objective::sft().with([idle]), &options, None, &mut watch).unwrap_err();
    assert!(error.message.starts_with("the term `orth_penalty` stayed 0 for 5 steps"), "{error}");
    // So small a rate moves no value of a KL run away from the start.
    let still = Options { learning_rate: 1e-30, ..options.clone() };
    let near = Objective::sft().with([kl(rows(5, 2), Direction::Forward, 10.0)]);
    let error = train(&start, &outcome, &near, &still, None, &mut watch).unwrap_err();
    assert!(error.message.starts_with("the term `kl` stayed 0 for 5 steps"), "{error}");
    let error = train(&start, &outcome, &Objective::sft(), &still, None, &mut watch).unwrap_err();
    assert!(error.message.starts_with("no parameter changed"), "{error}");
    let short = orth_penalty(vec![0.0; 5], Overlap::Component, 3.0);
    let error = train(&start, &outcome, &Objective::sft().with([short]), &options, None, &mut watch).unwrap_err();
    assert!(error.message.contains("has 5 values") && error.help.is_some(), "{error}");
    let silent = Example { ids: vec![1, 2], loss_mask: vec![false; 2], weight: 1.0 };
    let empty = Objective::sft().with([kl(vec![silent], Direction::Forward, 1.0)]);
    assert!(train(&start, &outcome, &empty, &options, None, &mut watch).unwrap_err().message.starts_with("`kl`"));
    let unequal = Objective::sft().with([dpo(rows(3, 1), rows(2, 1), 0.1, false, 1.0)]);
    assert!(train(&start, &outcome, &unequal, &options, None, &mut watch).is_err());
}

#[test]
fn weights_are_shown_at_the_end_of_every_epoch_from_the_start() {
    let (start, _) = start();
    let outcome = rows(20, 1);
    let mut seen = Vec::new();
    let mut watch = Watch {
        on_epoch: &mut |epoch, training| {
            seen.push((epoch, training.weights().digest()?));
            Ok(())
        },
        on_step: &mut |_, _| Ok(()),
    };
    let adapters = AdapterOptions { dropout: 0.2, ..AdapterOptions::default() };
    let options = Options { epochs: 3, adapters, ..options(LORA) };
    let trained = train(&start, &outcome, &Objective::sft(), &options, None, &mut watch).unwrap();
    assert_eq!(seen.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(seen[0].1, start.digest().unwrap());
    assert_eq!(seen[3].1, trained.weights.digest().unwrap());
    let mut merged = start.clone();
    trained.adapters.unwrap().merge(&start, &mut merged);
    assert_eq!(merged, trained.weights);
}
