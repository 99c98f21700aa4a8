//! Up to eight fits in lockstep: Newton's method on the dual, each pass over the rows serving all of them.
//!
//! With w = Z^T a the problem lives in as many dimensions as there are rows. A Newton step solves (I + C Z^T W Z) dw = - C dF/dw
//! by conjugate gradients, written in a: with K = Z Z^T every round needs one product K r, which also gives the exact
//! length of the gradient that is left. Products run in f32; the point, its residual and the proof are taken in f64.
//! Standardisation happens on the vectors, so sparse rows stay sparse and every fit may have its own scaler.

use rayon::prelude::*;

use super::curve::Curve;
use super::progress::Progress;
use super::{Certificate, Fit, LANES, Options, Task, not_converged};
use crate::error::Result;
use crate::probe::linear::Linear;
use crate::probe::product::{Lane, Rows, product, transposed_product};

use super::kernel::Kernel;

/// Below this estimate of the relative gradient the point is computed anew in f64 before the next step.
const REFRESH: f64 = 1e-2;
/// A Newton step is solved to this share of its right-hand side at best; f32 does not give more.
const FINEST: f64 = 1e-3;
/// Rounds of conjugate gradients after which a step is taken as it is: in all, and without a gain of a tenth.
const MOST_ROUNDS: usize = 400;
const STALLED: usize = 25;
/// The residual is the first guess of a step unless that makes the square of what is left this many times larger.
const GUESSED: f64 = 1e4;
/// A Newton step is solved to this share of its right-hand side at worst.
const COARSEST: f64 = 0.5;

/// One value per lane.
type Lanes<T> = [T; LANES];

/// Fits up to eight tasks, those from a number on for whoever follows.
pub(super) fn fit(
    rows: &Rows,
    kernel: &Kernel,
    tasks: &[Task],
    options: &Options,
    (progress, first): (&Progress, usize),
) -> Result<Vec<Fit>> {
    let mut pack = Pack::new(rows, kernel, tasks);
    let mut fits: Vec<Option<Fit>> = vec![None; tasks.len()];
    if tasks.iter().any(|task| task.start.is_some()) {
        let warm: Vec<bool> = tasks.iter().map(|task| task.start.is_some()).collect();
        pack.refresh(&warm);
    }
    while fits.iter().any(Option::is_none) {
        pack.settle();
        // A fit is computed anew when it asks for it and not when a companion does: its bytes are its own.
        let near: Vec<bool> =
            fits.iter().zip(&pack.points).map(|(fit, point)| fit.is_none() && point.estimate() < REFRESH).collect();
        if near.contains(&true) {
            let primal = pack.refresh(&near);
            pack.settle();
            let gradient = pack.gradient(&near);
            for (k, fit) in fits.iter_mut().enumerate().filter(|(k, _)| near[*k]) {
                let point = &mut pack.points[k];
                let length = primal.iter().map(|w| w[k] * w[k]).sum::<f64>().sqrt();
                let left = gradient.iter().map(|g| g[k] * g[k]).sum::<f64>().sqrt();
                (point.length, point.left) = (length, left);
                if left <= options.tolerance * length {
                    *fit = Some(point.finish(&tasks[k], primal.iter().map(|w| w[k]).collect()));
                }
            }
        }
        let bound = |(fit, point): (&Option<Fit>, &Point)| if fit.is_some() { 0.0 } else { point.estimate() };
        progress.tell(first, fits.iter().zip(&pack.points).map(bound))?;
        for (k, point) in pack.points.iter().enumerate().filter(|(k, _)| fits[*k].is_none()) {
            if point.products > options.most_products || point.steps > 300 {
                return Err(not_converged(tasks[k].c, point.estimate(), options.tolerance, point.products));
            }
        }
        if fits.iter().any(Option::is_none) {
            let open: Vec<bool> = (0..LANES).map(|k| fits.get(k).is_some_and(Option::is_none)).collect();
            pack.step(&open, &|| progress.tell(first, []))?;
        }
    }
    Ok(fits.into_iter().flatten().collect())
}

/// Where one fit stands.
struct Point {
    curve: Curve,
    dual: Vec<f64>,
    /// K dual: decision values without the intercept.
    f: Vec<f64>,
    intercept: f64,
    intercept_left: f64,
    residual: Vec<f64>,
    /// |w| and C |dF/dw|, estimated or, after a refresh, exact.
    length: f64,
    left: f64,
    steps: usize,
    /// Products that this fit had a use for.
    products: usize,
}

impl Point {
    /// Estimate of the relative gradient.
    fn estimate(&self) -> f64 {
        super::relative(self.left, self.length)
    }

    fn finish(&self, task: &Task, weights: Vec<f64>) -> Fit {
        let penalty = self.length * self.length / (2.0 * task.c);
        let certificate = Certificate {
            gradient_norm: self.left / task.c,
            intercept_gradient: self.intercept_left.abs(),
            distance_bound: self.left,
            relative_bound: self.estimate(),
            objective: self.curve.loss(&self.f, self.intercept) + penalty,
            newton_steps: self.steps,
            products: self.products,
        };
        let decisions = self.f.iter().map(|f| f + self.intercept).collect();
        let probe = Linear { weights, intercept: self.intercept, scaler: task.scaler.clone() };
        Fit { probe, certificate, decisions, dual: self.dual.clone() }
    }
}

/// The fits and what they share.
struct Pack<'a> {
    rows: &'a Rows<'a>,
    kernel: &'a Kernel,
    /// What the kernel lacks for the scalers of these fits.
    correction: Vec<Lanes<f32>>,
    points: Vec<Point>,
    /// 1 / scale and mean, per feature.
    inverse: Vec<Lanes<f64>>,
    mean: Vec<Lanes<f64>>,
    products: usize,
}

impl<'a> Pack<'a> {
    fn new(rows: &'a Rows<'a>, kernel: &'a Kernel, tasks: &[Task]) -> Self {
        let (n, d) = (rows.rows(), rows.columns());
        let lanes = |of: &dyn Fn(&Task, usize) -> f64, count: usize| -> Vec<Lanes<f64>> {
            (0..count).map(|index| std::array::from_fn(|k| tasks.get(k).map_or(0.0, |task| of(task, index)))).collect()
        };
        let inverse = lanes(&|task, j| 1.0 / task.scaler.scale[j], d);
        let mean = lanes(&|task, j| task.scaler.mean[j], d);
        let points = tasks.iter().map(|task| {
            let counted = |(a, s): (&f64, &f64)| if *s > 0.0 { *a } else { 0.0 };
            let dual = match task.start {
                Some(start) => start.iter().zip(task.weights).map(counted).collect(),
                None => vec![0.0; n],
            };
            Point {
                curve: Curve::new(task),
                dual,
                f: vec![0.0; n],
                intercept: 0.0,
                intercept_left: 0.0,
                residual: Vec::new(),
                length: 0.0,
                left: f64::INFINITY,
                steps: 0,
                products: 0,
            }
        });
        let points = points.collect();
        Pack { rows, kernel, correction: kernel.correct(tasks), points, inverse, mean, products: 0 }
    }

    /// Puts every intercept at its optimum and takes the residuals there.
    fn settle(&mut self) {
        self.points.par_iter_mut().for_each(|point| {
            (point.intercept, point.intercept_left) = point.curve.settle(&point.f, point.intercept);
            point.residual = point.curve.residual(&point.f, point.intercept, &point.dual);
            point.length = point.dual.iter().zip(&point.f).map(|(a, f)| a * f).sum::<f64>().max(0.0).sqrt();
        });
    }

    /// Z^T u in f64.
    fn lift(&mut self, u: impl Fn(&Point) -> &[f64]) -> Vec<Lanes<f64>> {
        let values: Vec<&[f64]> = self.points.iter().map(u).collect();
        let all: Vec<usize> = (0..self.rows.rows()).collect();
        let u = interleave(&values, &all, |x| x);
        let sums = column_sums(&u);
        let mut w = transposed_product(self.rows, &u, |x, _| x);
        for ((w, mean), inverse) in w.iter_mut().zip(&self.mean).zip(&self.inverse) {
            (0..LANES).for_each(|k| w[k] = (w[k] - mean[k] * sums[k]) * inverse[k]);
        }
        w
    }

    /// w = Z^T dual and f = Z w in f64, the latter kept by the fits that are wanted; returns w.
    fn refresh(&mut self, wanted: &[bool]) -> Vec<Lanes<f64>> {
        let primal = self.lift(|point| &point.dual);
        let scaled = zip2(&primal, &self.inverse, |w, inverse| w * inverse);
        let shift: Lanes<f64> =
            std::array::from_fn(|k| scaled.iter().zip(&self.mean).map(|(w, mean)| w[k] * mean[k]).sum());
        let f = product(self.rows, &scaled);
        for (k, point) in self.points.iter_mut().enumerate().filter(|(k, _)| wanted[*k]) {
            point.f = f.iter().map(|f| f[k] - shift[k]).collect();
        }
        self.count(wanted);
        primal
    }

    /// C dF/dw = - Z^T residual.
    fn gradient(&mut self, wanted: &[bool]) -> Vec<Lanes<f64>> {
        self.count(wanted);
        self.lift(|point| &point.residual)
    }

    /// Counts a product for those that wanted it.
    fn count(&mut self, wanted: &[bool]) {
        self.products += 1;
        self.points.iter_mut().zip(wanted).for_each(|(point, wanted)| point.products += usize::from(*wanted));
    }

    /// One Newton step of the fits that are open.
    fn step(&mut self, open: &[bool], follow: &dyn Fn() -> Result<()>) -> Result<()> {
        let chosen = &self.kernel.chosen;
        let n = chosen.len();
        let bends: Vec<Vec<f64>> =
            self.points.par_iter().map(|point| point.curve.bends(&point.f, point.intercept)).collect();
        let bend = interleave(&bends.iter().map(Vec::as_slice).collect::<Vec<_>>(), chosen, |x| x as f32);
        let bend_sum = column_sums(&bend);
        let residuals: Vec<&[f64]> = self.points.iter().map(|point| point.residual.as_slice()).collect();
        let mut rest = interleave(&residuals, chosen, |x| x as f32);
        let mut lifted = self.kernel.product(self.rows, &rest, &self.correction);
        self.count(open);
        let mut energy = dots(&rest, &lifted); // squared gradient
        let goal: Lanes<f64> = std::array::from_fn(|k| match self.points.get_mut(k) {
            Some(point) => {
                point.left = energy[k].max(0.0).sqrt();
                energy[k] * point.estimate().clamp(FINEST, COARSEST).powi(2)
            }
            None => 0.0,
        });
        let mut active: Lanes<bool> = std::array::from_fn(|k| open[k] && energy[k] > 0.0);
        let mut step = vec![[0.0f32; LANES]; n];
        let mut risen = vec![[0.0f32; LANES]; n]; // K step
        // Where rows depend on each other (more rows than features, copies), K does not see all of the residual, and
        // what it does not see would stay and drown the rest in rounding. The residual itself as the first guess takes
        // it away; what is then left is the curvature times K residual. Taken where that is not much larger.
        let along = dots(&bend, &lifted);
        let middle: Lanes<f32> = std::array::from_fn(|k| guarded(along[k], f64::from(bend_sum[k])) as f32);
        let (mut zero_guess, mut first_guess) = ([0.0f64; LANES], [0.0f64; LANES]);
        for i in 0..n {
            for k in 0..LANES {
                zero_guess[k] += f64::from(rest[i][k]).powi(2);
                first_guess[k] += f64::from(bend[i][k] * (lifted[i][k] - middle[k])).powi(2);
            }
        }
        let guessed: Vec<bool> = (0..LANES).map(|k| active[k] && first_guess[k] < GUESSED * zero_guess[k]).collect();
        if guessed.contains(&true) {
            for i in 0..n {
                for k in (0..LANES).filter(|k| guessed[*k]) {
                    (step[i][k], risen[i][k]) = (rest[i][k], lifted[i][k]);
                    rest[i][k] = -bend[i][k] * (lifted[i][k] - middle[k]);
                }
            }
            lifted = self.kernel.product(self.rows, &rest, &self.correction);
            self.count(&guessed);
            energy = dots(&rest, &lifted);
            (0..LANES).for_each(|k| active[k] = active[k] && energy[k] > goal[k]);
        }
        let (mut direction, mut lifted_direction) = (rest.clone(), lifted.clone());
        let (mut best, mut since) = (energy, [0; LANES]);
        for round in 0..MOST_ROUNDS {
            if !active.contains(&true) {
                break;
            }
            if round % 16 == 15 {
                follow()?;
            }
            // The intercept follows every step to its optimum: the mean under the curvature comes off.
            let along = dots(&bend, &lifted_direction);
            let middle: Lanes<f32> = std::array::from_fn(|k| guarded(along[k], f64::from(bend_sum[k])) as f32);
            let mut curvature = [0.0; LANES];
            let mut image = vec![[0.0f32; LANES]; n];
            for i in 0..n {
                for k in 0..LANES {
                    image[i][k] = direction[i][k] + bend[i][k] * (lifted_direction[i][k] - middle[k]);
                    curvature[k] += f64::from(image[i][k] * lifted_direction[i][k]);
                }
            }
            let size: Lanes<f32> =
                std::array::from_fn(|k| if active[k] { guarded(energy[k], curvature[k]) as f32 } else { 0.0 });
            for i in 0..n {
                for k in 0..LANES {
                    step[i][k] += size[k] * direction[i][k];
                    risen[i][k] += size[k] * lifted_direction[i][k];
                    rest[i][k] -= size[k] * image[i][k];
                }
            }
            lifted = self.kernel.product(self.rows, &rest, &self.correction);
            self.count(&active);
            let left = dots(&rest, &lifted);
            for k in 0..LANES {
                since[k] += 1;
                if left[k] < 0.8 * best[k] {
                    (best[k], since[k]) = (left[k], 0);
                }
                active[k] = active[k] && left[k] > goal[k] && since[k] < STALLED;
            }
            let turn: Lanes<f32> =
                std::array::from_fn(|k| if active[k] { guarded(left[k], energy[k]) as f32 } else { 0.0 });
            for i in 0..n {
                for k in 0..LANES {
                    direction[i][k] = rest[i][k] + turn[k] * direction[i][k];
                    lifted_direction[i][k] = lifted[i][k] + turn[k] * lifted_direction[i][k];
                }
            }
            energy = left;
        }
        self.points.par_iter_mut().enumerate().filter(|(k, _)| open[*k]).for_each(|(k, point)| {
            let (mut move_dual, mut move_f) = (vec![0.0; point.f.len()], vec![0.0; point.f.len()]);
            for (row, (step, risen)) in chosen.iter().zip(step.iter().zip(&risen)) {
                (move_dual[*row], move_f[*row]) = (f64::from(step[k]), f64::from(risen[k]));
            }
            point.advance(&move_dual, &move_f);
        });
        Ok(())
    }
}

impl Point {
    /// Moves along a Newton direction as far as the objective falls.
    fn advance(&mut self, move_dual: &[f64], move_f: &[f64]) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (here, slope, bend) = (dot(&self.dual, &self.f), dot(&self.dual, move_f), dot(move_dual, move_f));
        let c = self.curve.c;
        let before = self.curve.loss(&self.f, self.intercept) + here / (2.0 * c);
        let mut size = 1.0;
        loop {
            let f: Vec<f64> = self.f.iter().zip(move_f).map(|(f, by)| f + size * by).collect();
            let (b, _) = self.curve.settle(&f, self.intercept);
            let penalty = (here + 2.0 * size * slope + size * size * bend) / (2.0 * c);
            // Near the optimum the objective is flat to its last digits.
            if self.curve.loss(&f, b) + penalty <= before + 1e-9 * before.abs() || size < 1e-4 {
                (self.f, self.intercept) = (f, b);
                break;
            }
            size *= 0.5;
        }
        self.dual.iter_mut().zip(move_dual).for_each(|(a, by)| *a += size * by);
        self.steps += 1;
    }
}

/// a / b, 0 where b is.
fn guarded(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn interleave<T: Lane>(values: &[&[f64]], chosen: &[usize], of: impl Fn(f64) -> T) -> Vec<Lanes<T>> {
    let lane = |row: usize, k: usize| values.get(k).map_or(T::default(), |values| of(values[row]));
    chosen.iter().map(|row| std::array::from_fn(|k| lane(*row, k))).collect()
}

fn zip2<T: Lane>(a: &[Lanes<T>], b: &[Lanes<T>], of: impl Fn(T, T) -> T) -> Vec<Lanes<T>> {
    a.iter().zip(b).map(|(a, b)| std::array::from_fn(|k| of(a[k], b[k]))).collect()
}

fn dots(a: &[Lanes<f32>], b: &[Lanes<f32>]) -> Lanes<f64> {
    let mut sum = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|k| sum[k] += f64::from(a[k] * b[k]));
    }
    sum
}

fn column_sums<T: Lane>(u: &[Lanes<T>]) -> Lanes<T> {
    let mut sum = [T::default(); LANES];
    for u in u {
        (0..LANES).for_each(|k| sum[k] += u[k]);
    }
    sum
}
