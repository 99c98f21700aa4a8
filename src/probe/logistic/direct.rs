//! Newton's method on the normal equations, for few features.

use super::curve::Curve;
use super::progress::Progress;
use super::{Certificate, Fit, Options, Task, not_converged, relative};
use crate::error::{Error, Result};
use crate::probe::linear::Linear;
use crate::probe::product::Rows;

/// Fits one task, the one of this number for whoever follows.
pub(super) fn fit(rows: &Rows, task: &Task, options: &Options, (progress, number): (&Progress, usize)) -> Result<Fit> {
    let (n, d) = (rows.rows(), rows.columns());
    let z = standardise(rows, task);
    let curve = Curve::new(task);
    let mut w = vec![0.0; d];
    let mut f = vec![0.0; n];
    let mut objective = f64::INFINITY;
    for step in 0..200 {
        let (b, left) = curve.settle(&f, 0.0);
        let residual = curve.residual(&f, b, &vec![0.0; n]); // C s (y - p)
        // C times the gradient.
        let mut gradient = w.clone();
        for (z, residual) in z.chunks_exact(d).zip(&residual) {
            z.iter().zip(&mut gradient).for_each(|(z, g)| *g -= z * residual);
        }
        let (gradient_length, length) = (norm(&gradient), norm(&w));
        progress.tell(number, [relative(gradient_length, length)])?;
        objective = objective.min(curve.loss(&f, b) + length * length / (2.0 * task.c));
        if gradient_length <= 0.01 * options.tolerance * length
            || (step > 100 && gradient_length <= options.tolerance * length)
        {
            let certificate = Certificate {
                gradient_norm: gradient_length / task.c,
                intercept_gradient: left.abs(),
                distance_bound: gradient_length,
                relative_bound: relative(gradient_length, length),
                objective: curve.loss(&f, b) + length * length / (2.0 * task.c),
                newton_steps: step,
                products: 2 * step + 1,
            };
            let dual = residual;
            let decisions = f.iter().map(|f| f + b).collect();
            let probe = Linear { weights: w, intercept: b, scaler: task.scaler.clone() };
            return Ok(Fit { probe, certificate, decisions, dual });
        }
        let direction = newton(&z, &curve.bends(&f, b), &gradient)?;
        let along: Vec<f64> = z.chunks_exact(d).map(|z| dot(z, &direction)).collect();
        let mut size = 1.0;
        loop {
            let tried: Vec<f64> = f.iter().zip(&along).map(|(f, along)| f + size * along).collect();
            let length: f64 = w.iter().zip(&direction).map(|(w, step)| (w + size * step).powi(2)).sum();
            let (b, _) = curve.settle(&tried, b);
            if curve.loss(&tried, b) + length / (2.0 * task.c) <= objective * (1.0 + 1e-12) || size < 1e-6 {
                break;
            }
            size *= 0.5;
        }
        w.iter_mut().zip(&direction).for_each(|(w, step)| *w += size * step);
        f = z.chunks_exact(d).map(|z| dot(z, &w)).collect();
    }
    let residual = curve.residual(&f, curve.settle(&f, 0.0).0, &vec![0.0; n]);
    let mut gradient = w.clone();
    for (z, residual) in z.chunks_exact(d).zip(&residual) {
        z.iter().zip(&mut gradient).for_each(|(z, g)| *g -= z * residual);
    }
    Err(not_converged(task.c, relative(norm(&gradient), norm(&w)), options.tolerance, 400))
}

/// The standardised features, row after row.
fn standardise(rows: &Rows, task: &Task) -> Vec<f64> {
    let d = rows.columns();
    let zero: Vec<f64> = task.scaler.mean.iter().zip(&task.scaler.scale).map(|(mean, scale)| -mean / scale).collect();
    let mut z = Vec::with_capacity(rows.rows() * d);
    for part in rows.parts() {
        for row in 0..part.rows() {
            let start = z.len();
            z.extend_from_slice(&zero);
            part.for_each(row, |j, x| z[start + j] = (x - task.scaler.mean[j]) / task.scaler.scale[j]);
        }
    }
    z
}

/// Solves (I + C Z^T W Z - its part along the intercept) step = -gradient by Cholesky's factorisation.
fn newton(z: &[f64], bends: &[f64], gradient: &[f64]) -> Result<Vec<f64>> {
    let d = gradient.len();
    let total: f64 = bends.iter().sum();
    let mut mean = vec![0.0; d];
    for (z, bend) in z.chunks_exact(d).zip(bends) {
        z.iter().zip(&mut mean).for_each(|(z, mean)| *mean += z * bend / total);
    }
    let mut hessian = vec![0.0; d * d];
    let mut centred = vec![0.0; d];
    for (z, bend) in z.chunks_exact(d).zip(bends).filter(|(_, bend)| **bend > 0.0) {
        for ((centred, z), mean) in centred.iter_mut().zip(z).zip(&mean) {
            *centred = bend.sqrt() * (z - mean);
        }
        for (i, row) in hessian.chunks_exact_mut(d).enumerate() {
            let left = centred[i];
            row[..=i].iter_mut().zip(&centred).for_each(|(h, right)| *h += left * right);
        }
    }
    (0..d).for_each(|i| hessian[i * d + i] += 1.0);
    for i in 0..d {
        for j in 0..=i {
            let sum = hessian[i * d + j] - dot(&hessian[i * d..i * d + j], &hessian[j * d..j * d + j]);
            hessian[i * d + j] = if i > j {
                sum / hessian[j * d + j]
            } else if sum > 0.0 {
                sum.sqrt()
            } else {
                return Err(Error::experiment("the features are too unequal in scale for this `c`")
                    .with_help("take a smaller `c`"));
            };
        }
    }
    let mut step: Vec<f64> = gradient.iter().map(|g| -g).collect();
    for i in 0..d {
        step[i] = (step[i] - dot(&hessian[i * d..i * d + i], &step[..i])) / hessian[i * d + i];
    }
    for i in (0..d).rev() {
        step[i] /= hessian[i * d + i];
        let value = step[i];
        (0..i).for_each(|j| step[j] -= hessian[i * d + j] * value);
    }
    Ok(step)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
