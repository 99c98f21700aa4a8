//! One training, step by step.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::batch::{Cycle, Plan};
use super::checkpoint::{Progress, State, run_digest};
use super::fit::Trained;
use super::guard::{Guard, check_changed};
use super::lora::Lora;
use super::objective::direction::{add_multiple, dot, norm};
use super::objective::ewc;
use super::objective::grad_project::project;
use super::objective::loss::{Source, Start, nothing};
use super::objective::orth_penalty::{Overlap, Values, overlap};
use super::objective::sft::{mean_loss_with, tokens};
use super::objective::{Against, Change, Loss, Objective, Penalty};
use super::optimizer::Adam;
use super::options::Options;
use super::passes::Passes;
use super::trainable::Trainable;
use crate::data::digest::Digest;
use crate::data::random::Random;
use crate::ensure;
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::forward::Prepared;
use crate::model::kernels::add;
use crate::model::weights::Weights;

/// Rows whose loss is taken before anything is trained.
const FIRST_ROWS: usize = 200;
/// Steps whose mean is the last loss.
const LAST_STEPS: usize = 20;

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// From 1.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// The epoch that ended with this step, from 1.
    pub epoch: Option<usize>,
    /// Mean loss of the outcome rows before the step, without terms: of `sft`, in nats per token.
    pub loss: f64,
    /// What the terms and changes of the objective did, in their order.
    pub readings: Vec<Reading>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens read in this step.
    pub tokens: usize,
}

/// What a term or a change of the gradient did in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Which.
    pub name: String,
    /// A term's value without its coefficient; the cosine of the gradient and the direction that it is projected
    /// against; the factor of a direction that is steered along.
    pub value: f64,
    /// Norm of what was added to the gradient; of the direction that it is projected against.
    pub gradient_norm: f64,
}

/// A training between two steps.
pub struct Training<'a> {
    start: &'a Weights,
    rows: &'a [Example],
    objective: &'a Objective,
    options: &'a Options,
    /// The start, laid out, where a loss compares with it.
    prepared_start: Option<Prepared>,
    outcome: Source<'a>,
    plan: Plan,
    /// Rows of each term, and of each change, that has rows.
    of_terms: Vec<Option<Rows<'a>>>,
    of_changes: Vec<Option<Rows<'a>>>,
    model: Trainable<'a>,
    passes: Passes,
    adam: Adam,
    guard: Guard,
    progress: Progress,
    gradient: Gradient,
    run: OnceCell<Digest>,
}

/// Rows of a term, and the order in which they come.
struct Rows<'a> {
    source: Source<'a>,
    cycle: Cycle,
}

/// Buffers for gradients of what is trained.
#[derive(Default)]
struct Gradient {
    /// Of the step.
    whole: Vec<f32>,
    /// Of a term or a direction.
    other: Vec<f32>,
}

impl<'a> Training<'a> {
    /// A training before its first step.
    ///
    /// # Errors
    /// Options, rows or an objective that cannot be trained with.
    pub fn new(
        start: &'a Weights,
        rows: &'a [Example],
        objective: &'a Objective,
        options: &'a Options,
    ) -> Result<Self> {
        options.check()?;
        check_rows(start, rows)?;
        let model = Trainable::new(start, options)?;
        let passes = Passes::new(start, model.lora().map(|lora| lora.beside(start)), options.threads)?;
        let laid_out = passes.prepared_weights();
        let origin = needs_start(objective).then_some(Start { weights: start, prepared: &laid_out });

        objective.loss.check(start.config.layers)?;
        let mut outcome = Source::new(objective.loss, rows, &objective.rejected, origin)?;
        objective.edits.iter().try_for_each(|edit| edit.check(start))?;
        ensure!(
            objective.edits.is_empty() || !matches!(objective.loss, Loss::Kl { .. } | Loss::Representation { .. }),
            "`{}` of the outcome rows cannot be trained with changes of the residual stream", objective.loss.name();
            help: "train the outcome rows by `sft`, and compare with the start in a term"
        );
        outcome.edits = &objective.edits;
        check_rows(start, &objective.rejected)?;
        ensure!(!outcome.units.is_empty() || options.epochs == 0, "no row has an assistant message to train on");
        let mut random = Random::stream(options.seed, &[0xF17]);
        let plan = Plan::new(&outcome.lengths, options.epochs, options.batch_tokens, options.accumulate, &mut random);

        let mut streams = 0;
        let mut others = |name: &str, loss: Loss, rows: &'a [Example], rejected: &'a [Example]| -> Result<Rows<'a>> {
            check_rows(start, rows).and(check_rows(start, rejected)).map_err(|error| error.context(name))?;
            loss.check(start.config.layers)?;
            let source = Source::new(loss, rows, rejected, origin)?;
            if source.units.is_empty() {
                return Err(nothing(name));
            }
            streams += 1;
            let random = Random::stream(options.seed, &[0x7E2A, streams]);
            let cycle = Cycle::new(&source.lengths, options.batch_tokens, random);
            Ok(Rows { source, cycle })
        };
        let trained = model.values().len();
        let mut of_terms = Vec::with_capacity(objective.terms.len());
        let mut watched = Vec::new();
        for term in &objective.terms {
            ensure!(term.coefficient.is_finite(), "the coefficient of `{}` is {}", term.name, term.coefficient);
            watched.push((term.name.clone(), term.coefficient));
            of_terms.push(match &term.penalty {
                Penalty::Rows { loss, rows, rejected } => Some(others(&term.name, *loss, rows, rejected)?),
                Penalty::Distance => None,
                Penalty::Ewc { fisher } => {
                    ewc::check(&term.name, fisher, start.values.len())?;
                    None
                }
                Penalty::Overlap { plane, overlap } => {
                    check_plane(&term.name, plane, trained)?;
                    ensure!(
                        *overlap == Overlap::Component || model.lora().is_some(),
                        "`{}` on rows is a penalty of adapters, and all values are trained", term.name;
                        help: "train with `lora`, or measure the component"
                    );
                    None
                }
            });
        }
        let mut of_changes = Vec::with_capacity(objective.changes.len());
        for change in &objective.changes {
            let (rows, factor) = match change {
                Change::Project { against: Against::Rows { loss, rows, .. }, projection } => {
                    (Some(others(change.name(), *loss, rows, &[])?), projection.strength)
                }
                Change::Project { against: Against::Plane(plane), projection } => {
                    check_plane(change.name(), plane, trained)?;
                    (None, projection.strength)
                }
                Change::Steer { plane, steering } => {
                    check_plane(change.name(), plane, trained)?;
                    (None, steering.alpha.abs().max(steering.final_alpha.unwrap_or(0.0).abs()))
                }
            };
            ensure!(factor.is_finite(), "the factor of `{}` is {}", change.name(), factor);
            watched.push((change.name().to_string(), factor));
            of_changes.push(rows);
        }

        let first_loss = match objective.loss {
            Loss::Sft => {
                let rows: Vec<&Example> = outcome.units.iter().map(|unit| unit.row).take(FIRST_ROWS).collect();
                mean_loss_with(start, &laid_out, &rows, &[])?
            }
            _ => outcome.mean(start, &laid_out, origin, FIRST_ROWS)?,
        };
        let progress = Progress {
            first_loss: first_loss.to_bits(),
            readings: vec![Vec::new(); watched.len()],
            ..Progress::default()
        };
        let prepared_start = needs_start(objective).then_some(laid_out);
        let adam = Adam::new(options.adam(), model.parts(), options.threads);
        let guard = Guard::new(watched);
        let gradient = Gradient::default();
        Ok(Training {
            start,
            rows,
            objective,
            options,
            prepared_start,
            outcome,
            plan,
            of_terms,
            of_changes,
            model,
            passes,
            adam,
            guard,
            progress,
            gradient,
            run: OnceCell::new(),
        })
    }

    /// Steps that are done.
    pub fn done(&self) -> usize {
        self.progress.steps
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> usize {
        self.plan.steps.len()
    }

    /// The weights now, adapters merged.
    pub fn weights(&self) -> Cow<'_, Weights> {
        self.model.merged()
    }

    /// The adapters now, where those are trained.
    pub fn lora(&self) -> Option<&Lora> {
        self.model.lora()
    }

    /// Number of trained values: the length of the directions that objectives can use.
    pub fn trained_values(&self) -> usize {
        self.model.values().len()
    }

    /// The gradient of what is trained, as the last step used it; empty before the first.
    pub fn last_gradient(&self) -> &[f32] {
        &self.gradient.whole
    }

    /// Takes the next step; there is one. A step that fails has changed nothing.
    ///
    /// # Errors
    /// A loss that is no number, or a term that does nothing.
    pub fn step(&mut self) -> Result<Step> {
        let (index, steps) = (self.done(), self.steps());
        let options = self.options;
        let learning_rate = options.learning_rate * options.schedule.factor(index, steps, options.warmup_fraction);
        self.passes.set_noise(Random::stream(options.seed, &[0xD809, index as u64]).next_u64());
        self.model.lay_out(&mut self.passes)?;
        let mut readings = self.idle_readings();
        let mut tokens = self.tokens(index);

        let loss = self.outcome_gradient(index)?;
        tokens += self.add_terms(&mut readings)?;
        self.add_overlaps(&mut readings);
        tokens += self.change_gradient(index, &mut readings)?;
        let failed = |gradient_norm: f64| {
            let message = format!("loss is {loss} with gradient norm {gradient_norm} at step {} of {steps}", index + 1);
            Error::experiment(message).with_help("lower `learning_rate`")
        };
        if !loss.is_finite() {
            return Err(failed(norm(self.last_gradient())));
        }
        self.guard.check(&readings, index + 1, steps)?;
        let gradient_norm = self.move_values(index, learning_rate);
        if !gradient_norm.is_finite() {
            return Err(failed(gradient_norm));
        }
        self.progress.steps += 1;
        self.progress.tokens += tokens;
        self.progress.losses.push(loss.to_bits());
        for (curve, reading) in self.progress.readings.iter_mut().zip(&readings) {
            curve.push(reading.value.to_bits());
        }
        let epoch = self.plan.epoch_ends.iter().position(|end| *end == index + 1).map(|epoch| epoch + 1);
        Ok(Step { step: index + 1, steps, epoch, loss, readings, gradient_norm, learning_rate, tokens })
    }

    fn idle_readings(&self) -> Vec<Reading> {
        let terms = self.objective.terms.iter().map(|term| term.name.clone());
        let changes = self.objective.changes.iter().map(|change| change.name().to_string());
        terms.chain(changes).map(|name| Reading { name, ..Reading::default() }).collect()
    }

    fn tokens(&self, index: usize) -> usize {
        self.plan.steps[index].iter().flatten().map(|unit| self.outcome.lengths[*unit]).sum()
    }

    /// Mean loss of the step's outcome rows; its gradient becomes `gradient.whole`.
    fn outcome_gradient(&mut self, index: usize) -> Result<f64> {
        let origin = self.prepared_start.as_ref().map(|prepared| Start { weights: self.start, prepared });
        let mut run = Run { passes: &mut self.passes, weights: self.model.weights(), origin };
        run.mean(&self.outcome, &self.plan.steps[index], Some(&mut self.gradient.whole))
    }

    /// Adds the terms of rows and of the distance; returns the tokens that they read.
    fn add_terms(&mut self, readings: &mut [Reading]) -> Result<usize> {
        let mut tokens = 0;
        for (place, term) in self.objective.terms.iter().enumerate() {
            let (reading, acts) = (&mut readings[place], term.coefficient != 0.0);
            let Gradient { whole, other, .. } = &mut self.gradient;
            match (&term.penalty, &mut self.of_terms[place]) {
                (Penalty::Distance, _) => {
                    reading.value = self.model.distance(term.coefficient, acts.then_some(whole));
                    reading.gradient_norm = 2.0 * term.coefficient.abs() * reading.value.sqrt();
                }
                (Penalty::Ewc { fisher }, _) => {
                    let gradient = acts.then_some(whole.as_mut_slice());
                    (reading.value, reading.gradient_norm) =
                        self.model.weighed_distance(fisher, term.coefficient, gradient);
                }
                (Penalty::Rows { .. }, Some(Rows { source, cycle })) => {
                    let batches = cycle.take(self.options.accumulate);
                    tokens += batches.iter().flatten().map(|unit| source.lengths[*unit]).sum::<usize>();
                    let origin = self.prepared_start.as_ref().map(|prepared| Start { weights: self.start, prepared });
                    let mut run = Run { passes: &mut self.passes, weights: self.model.weights(), origin };
                    reading.value = run.mean(source, &batches, acts.then_some(&mut *other))?;
                    if acts {
                        reading.gradient_norm = term.coefficient.abs() * norm(other);
                        add_multiple(whole, term.coefficient, other);
                    }
                }
                _ => {}
            }
        }
        Ok(tokens)
    }

    /// Adds the overlaps with planes.
    fn add_overlaps(&mut self, readings: &mut [Reading]) {
        for (term, reading) in self.objective.terms.iter().zip(readings) {
            let Penalty::Overlap { plane, overlap: kind } = &term.penalty else { continue };
            let Gradient { whole: gradient, other } = &mut self.gradient;
            other.clear();
            other.resize(gradient.len(), 0.0);
            let tensors = self.model.tensors();
            let values = Values { now: self.model.values(), first: self.model.first_values(), tensors: &tensors };
            let acts = term.coefficient != 0.0;
            reading.value = overlap(values, plane, *kind, term.coefficient, acts.then_some(&mut *other));
            if acts {
                reading.gradient_norm = norm(other);
                add(gradient, other);
            }
        }
    }

    /// Changes the gradient of what is trained; returns the tokens that were read for it.
    fn change_gradient(&mut self, index: usize, readings: &mut [Reading]) -> Result<usize> {
        let (steps, terms, mut tokens) = (self.steps(), self.objective.terms.len(), 0);
        for (place, change) in self.objective.changes.iter().enumerate() {
            let reading = &mut readings[terms + place];
            match change {
                Change::Steer { plane, steering } => {
                    reading.value = steering.alpha_at(index, steps);
                    reading.gradient_norm = reading.value.abs() * norm(plane);
                    if !steering.direct && reading.value != 0.0 {
                        add_multiple(&mut self.gradient.whole, reading.value, plane);
                    }
                }
                Change::Project { against, projection } => {
                    let mut sign = 1.0;
                    if let (Against::Rows { sign: of_rows, .. }, Some(rows)) = (against, &mut self.of_changes[place]) {
                        sign = *of_rows;
                        let batches = rows.cycle.take(self.options.accumulate);
                        tokens += batches.iter().flatten().map(|unit| rows.source.lengths[*unit]).sum::<usize>();
                        let origin =
                            self.prepared_start.as_ref().map(|prepared| Start { weights: self.start, prepared });
                        let mut run = Run { passes: &mut self.passes, weights: self.model.weights(), origin };
                        run.mean(&rows.source, &batches, Some(&mut self.gradient.other))?;
                    }
                    let Gradient { whole: gradient, other } = &mut self.gradient;
                    let direction = match against {
                        Against::Plane(plane) => plane,
                        Against::Rows { .. } => other,
                    };
                    let (length, product) = (norm(direction), sign * dot(gradient, direction));
                    let lengths = length * norm(gradient);
                    reading.value = if lengths > 0.0 { product / lengths } else { 0.0 };
                    reading.gradient_norm = length;
                    let places: Vec<_> = self.model.tensors().into_iter().map(|tensor| tensor.range).collect();
                    project(gradient, direction, sign, &places, *projection);
                }
            }
        }
        Ok(tokens)
    }

    /// The optimizer's step, and what directly steers; returns the gradient's norm before clipping.
    fn move_values(&mut self, index: usize, learning_rate: f64) -> f64 {
        let gradient_norm = self.model.step(&mut self.adam, &self.gradient.whole, learning_rate);
        for change in &self.objective.changes {
            if let Change::Steer { plane, steering } = change {
                let alpha = steering.alpha_at(index, self.plan.steps.len());
                if steering.direct && alpha != 0.0 && gradient_norm.is_finite() {
                    self.model.shift(-learning_rate * alpha, plane);
                }
            }
        }
        gradient_norm
    }

    /// All that is needed to go on later.
    pub fn checkpoint(&self) -> Result<State<'_>> {
        let (first_moment, second_moment, _) = self.adam.moments();
        Ok(State {
            run: self.run()?,
            progress: Progress { seen: self.guard.seen().to_vec(), ..self.progress.clone() },
            notes: String::new(),
            values: self.model.values().into(),
            first_moment: first_moment.into(),
            second_moment: second_moment.into(),
        })
    }

    /// Goes on from what [`Training::checkpoint`] gave, before the first step of this one.
    ///
    /// # Errors
    /// The checkpoint of another training; nothing is changed then.
    pub fn resume(&mut self, state: State) -> Result<()> {
        state.check_run(&self.run()?, self.model.values().len())?;
        self.model.set_values(&state.values);
        drop(state.values);
        let (first_moment, second_moment) = (state.first_moment.into_owned(), state.second_moment.into_owned());
        self.adam.resume(first_moment, second_moment, state.progress.steps);
        self.guard.resume(&state.progress.seen);
        for rows in self.of_terms.iter_mut().chain(&mut self.of_changes).flatten() {
            rows.cycle.take(self.options.accumulate * state.progress.steps);
        }
        self.progress = state.progress;
        Ok(())
    }

    /// Identity of the run, which takes a look at every value and row the first time.
    fn run(&self) -> Result<Digest> {
        if let Some(run) = self.run.get() {
            return Ok(*run);
        }
        let run = run_digest(self.start, self.rows, self.objective, self.options)?;
        Ok(*self.run.get_or_init(|| run))
    }

    /// What training gave.
    ///
    /// # Errors
    /// No parameter changed.
    pub fn finish(self) -> Result<Trained> {
        let Progress { steps, tokens, first_loss, losses, readings, .. } = self.progress;
        check_changed(self.model.first_values(), self.model.values(), steps)?;
        let curve = |bits: &[u64]| -> Vec<(usize, f64)> {
            bits.iter().enumerate().map(|(step, loss)| (step + 1, f64::from_bits(*loss))).collect()
        };
        let names = self.guard.names();
        let terms = names.iter().cloned().zip(readings.iter().map(|bits| curve(bits))).collect();
        let curve = curve(&losses);
        let last = &curve[curve.len().saturating_sub(LAST_STEPS)..];
        let last_loss = last.iter().map(|(_, loss)| loss).sum::<f64>() / last.len() as f64;
        let (weights, adapters) = self.model.into_parts();
        let first_loss = f64::from_bits(first_loss);
        Ok(Trained { weights, adapters, steps, tokens, first_loss, last_loss, curve, terms })
    }
}

/// What a loss of rows is computed with.
struct Run<'r> {
    passes: &'r mut Passes,
    weights: &'r Weights,
    origin: Option<Start<'r>>,
}

impl Run<'_> {
    /// Mean loss over a step's batches; its gradient becomes `gradient`.
    fn mean(&mut self, source: &Source, batches: &[Vec<usize>], mut gradient: Option<&mut Vec<f32>>) -> Result<f64> {
        let amount = source.amount(batches);
        let mut total = 0.0;
        for (place, batch) in batches.iter().enumerate() {
            if let (0, Some(gradient)) = (place, &mut gradient) {
                self.passes.exchange_gradient(gradient);
            }
            total += source.run(self.passes, self.weights, self.origin, batch, amount, gradient.is_some())?;
            match &mut gradient {
                Some(gradient) if place == 0 => self.passes.exchange_gradient(gradient),
                Some(gradient) => add(gradient, self.passes.gradient()),
                None => {}
            }
        }
        Ok(total)
    }
}

/// Whether some loss of the objective compares with the weights at the start.
pub(super) fn needs_start(objective: &Objective) -> bool {
    let of_terms = objective.terms.iter().filter_map(|term| match &term.penalty {
        Penalty::Rows { loss, .. } => Some(*loss),
        _ => None,
    });
    let of_changes = objective.changes.iter().filter_map(|change| match change {
        Change::Project { against: Against::Rows { loss, .. }, .. } => Some(*loss),
        _ => None,
    });
    of_terms.chain(of_changes).chain([objective.loss]).any(Loss::needs_start)
}

fn check_plane(name: &str, plane: &[f32], trained: usize) -> Result<()> {
    ensure!(
        plane.len() == trained,
        "the direction of `{}` has {} values, {} are trained", name, plane.len(), trained;
        help: "make it with the same model, method, rank and targets"
    );
    ensure!(plane.iter().all(|value| value.is_finite()), "the direction of `{}` has values that are no numbers", name);
    Ok(())
}

fn check_rows(weights: &Weights, rows: &[Example]) -> Result<()> {
    let (context, vocabulary) = (weights.config.context, weights.config.vocabulary);
    for row in rows {
        ensure!(row.ids.len() == row.loss_mask.len(), "a row has other loss marks than tokens");
        ensure!(tokens(row) <= context, "a row has {} tokens, the model reads {}", tokens(row), context);
        let id = row.ids.iter().max().copied().unwrap_or(0);
        ensure!((id as usize) < vocabulary, "a row has token {}, the model has {}", id, vocabulary);
        ensure!(row.weight.is_finite(), "a row has the weight {}", row.weight);
    }
    Ok(())
}
