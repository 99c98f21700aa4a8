//! Follows a job to its end: its state, what it says, its curve, its checkpoints.

use std::collections::HashSet;
use std::time::Duration;

use super::curve::{CurvePoint, curve_of, parse_curve, point_of, step_of};
use super::fault::{Class, Fault};
use super::jobs::{Jobs, ToldJob};
use super::wire::job::{Checkpoint, JobEvent, JobStatus};

/// A job that has ended, and all that is known about its way there.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The job.
    pub told: ToldJob,
    /// Its training curve.
    pub curve: Vec<CurvePoint>,
    /// Models from the middle of it, the first step first.
    pub checkpoints: Vec<Checkpoint>,
    /// What it said, oldest first.
    pub events: Vec<JobEvent>,
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobProgress {
    /// Its state, in the provider's words.
    pub status: String,
    /// The last step that it told.
    pub step: Option<u64>,
    /// Of how many.
    pub steps: Option<u64>,
    /// Training loss of the last step that told one.
    pub train_loss: Option<f64>,
    /// When the provider thinks that it will end, in seconds since 1970.
    pub estimated_finish: Option<f64>,
}

/// How a job is followed.
#[derive(Clone, Copy)]
pub struct FollowOptions<'a> {
    /// Seconds between two looks at first; they grow a little.
    pub poll_seconds: f64,
    /// Told after every look, with the job as it is: write its state down here.
    pub on_progress: &'a (dyn Fn(&ToldJob, &JobProgress) + Sync),
    /// Told every event once.
    pub on_event: &'a (dyn Fn(&JobEvent) + Sync),
}

impl Default for FollowOptions<'_> {
    fn default() -> Self {
        FollowOptions { poll_seconds: 10.0, on_progress: &|_, _| {}, on_event: &|_| {} }
    }
}

/// Looks in a row that a job may be missing: lists lag behind launches.
const MOST_MISSES: u32 = 10;
/// Looks in a row at a finished job that has no model yet.
const MOST_NAMELESS: u32 = 6;
/// How much longer each wait is than the one before, and the longest in terms of the first.
const GROWTH: (f64, f64) = (1.1, 6.0);

/// Looks at a job until it has ended. Faults that pass do not end this; only a provider that says no does.
///
/// # Errors
/// A key that is refused, a job that does not exist.
pub async fn follow(jobs: &Jobs<'_>, job_id: &str, options: &FollowOptions<'_>) -> Result<Followed, Fault> {
    let mut progress = JobProgress::default();
    let (mut seen, mut events) = (HashSet::new(), Vec::new());
    let (mut misses, mut nameless) = (0, 0);
    let first = Duration::try_from_secs_f64(options.poll_seconds).unwrap_or(Duration::from_secs(10));
    let mut gap = first;
    let told = loop {
        let told = match jobs.fetch(job_id).await {
            Ok(told) => {
                misses = 0;
                Some(told)
            }
            Err(fault) if fault.is_retryable() => None,
            Err(fault) if fault.class == Class::NotFound && misses < MOST_MISSES => {
                misses += 1;
                None
            }
            Err(fault) => return Err(fault),
        };
        // Events decorate: without them a job is followed all the same.
        for event in jobs.new_events(job_id, &mut seen).await.unwrap_or_default() {
            note(&event, &mut progress);
            (options.on_event)(&event);
            events.push(event);
        }
        if let Some(told) = told {
            progress.status = told.job.status.name().to_string();
            progress.estimated_finish = told.job.estimated_finish;
            (options.on_progress)(&told, &progress);
            let is_nameless = told.job.status == JobStatus::Succeeded && told.job.fine_tuned_model.is_none();
            nameless += u32::from(is_nameless);
            if told.job.status.is_final() && (!is_nameless || nameless >= MOST_NAMELESS) {
                break told;
            }
        }
        jobs.wait(gap).await;
        gap = gap.mul_f64(GROWTH.0).min(first.mul_f64(GROWTH.1));
    };
    // What was said between the last look at the events and the end.
    for event in jobs.new_events(job_id, &mut seen).await.unwrap_or_default() {
        (options.on_event)(&event);
        events.push(event);
    }
    let checkpoints = jobs.checkpoints(job_id).await.unwrap_or_default();
    let curve = fetch_curve(jobs, &told.job.result_files).await.unwrap_or_else(|| curve_of(&events));
    Ok(Followed { told, curve, checkpoints, events })
}

fn note(event: &JobEvent, progress: &mut JobProgress) {
    if let Some((step, steps)) = step_of(event) {
        progress.step = progress.step.max(Some(step));
        progress.steps = steps.or(progress.steps);
    }
    if let Some(point) = point_of(event) {
        progress.train_loss = point.train_loss;
    }
}

/// The curve in the first result file that has one.
async fn fetch_curve(jobs: &Jobs<'_>, files: &[String]) -> Option<Vec<CurvePoint>> {
    for file in files {
        let Ok(bytes) = jobs.content(file).await else { continue };
        if let Some(curve) = parse_curve(&bytes).filter(|curve| !curve.is_empty()) {
            return Some(curve);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::*;
    use crate::provider::launch::fake::Fake;

    const PACE: f64 = 0.0005;

    async fn with_job(status: &str, fields: Value) -> Fake {
        let fake = Fake::start().await;
        let mut job = json!({ "id": "ftjob-1", "status": status, "created_at": 1, "model": "gpt-4.1" });
        job.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        fake.world().jobs.push(job);
        fake
    }

    #[tokio::test]
    async fn a_job_is_followed_through_every_state_and_every_stumble() {
        let done =
            json!({ "fine_tuned_model": "ft:gpt-4.1:org::x", "trained_tokens": 900, "result_files": ["file-r"] });
        let fake = with_job("succeeded", done).await;
        let look = |status: &str| json!({ "id": "ftjob-1", "status": status, "estimated_finish": 12 });
        {
            let mut world = fake.world();
            let states = ["validating_files", "queued", "running", "pausing", "paused", "reticulating", "running"];
            world.looks.extend(states.map(look));
            // A model's name may come later than the success.
            world.looks.push_back(look("succeeded"));
            world.stumbles.extend([500, 502, 503, 500, 500, 429, 408, 404, 404]);
            for number in 0..7 {
                let data = json!({ "step": number, "total_steps": 6, "train_loss": f64::from(number) });
                world
                    .events
                    .push(json!({ "id": format!("ev-{number}"), "created_at": number, "message": "m", "data": data }));
            }
            for number in 0..5 {
                let name = format!("ft:gpt-4.1:org::x:ckpt-step-{number}");
                world.checkpoints.push(json!({
                    "id": format!("ck-{number}"), "step_number": number, "fine_tuned_model_checkpoint": name,
                }));
            }
            world.content = b"step,train_loss\n1,0.5\n2,0.25\n".to_vec();
        }
        let (states, told) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let on_progress = |_: &ToldJob, progress: &JobProgress| states.lock().unwrap().push(progress.clone());
        let on_event = |event: &JobEvent| told.lock().unwrap().push(event.id.clone());
        let options = FollowOptions { on_progress: &on_progress, on_event: &on_event, ..FollowOptions::default() };
        let endpoint = fake.endpoint(&["sk-test"], |settings| settings.most_tries = 2);
        let followed = follow(&Jobs { endpoint: &endpoint, key: 0, pace: PACE }, "ftjob-1", &options).await.unwrap();
        assert_eq!(followed.told.job.fine_tuned_model.as_deref(), Some("ft:gpt-4.1:org::x"));
        assert_eq!(followed.told.job.trained_tokens, Some(900));
        let curve: Vec<_> = followed.curve.iter().map(|point| (point.step, point.train_loss)).collect();
        assert_eq!(curve, [(1, Some(0.5)), (2, Some(0.25))]);
        assert_eq!(followed.checkpoints.iter().map(|one| one.step_number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(*told.lock().unwrap(), ["ev-0", "ev-1", "ev-2", "ev-3", "ev-4", "ev-5", "ev-6"]);
        assert_eq!(followed.events.len(), 7);
        let states = states.into_inner().unwrap();
        let names: Vec<_> = states.iter().map(|progress| progress.status.as_str()).collect();
        let expected = ["validating_files", "queued", "running", "pausing", "paused", "reticulating", "running"];
        assert_eq!((&names[..7], &names[7..]), (&expected[..], &["succeeded", "succeeded"][..]));
        let first = &states[0];
        assert_eq!(
            (first.step, first.steps, first.train_loss, first.estimated_finish),
            (Some(6), Some(6), Some(6.0), Some(12.0))
        );
    }

    #[tokio::test]
    async fn events_that_come_while_the_job_runs_are_told_once() {
        let fake = with_job("running", json!({})).await;
        let told = Mutex::new(Vec::new());
        let on_progress = |_: &ToldJob, _: &JobProgress| {
            let mut world = fake.world();
            let number = world.events.len();
            for number in number..number + 3 {
                let message = format!("Step {number}/9: training loss=0.{number}");
                world.events.push(json!({ "id": format!("ev-{number}"), "created_at": 5, "message": message }));
            }
            if number >= 6 {
                world.jobs[0]["status"] = json!("failed");
                world.jobs[0]["error"] =
                    json!({ "code": "invalid_training_file", "message": "no", "param": "training_file" });
            }
        };
        let on_event = |event: &JobEvent| told.lock().unwrap().push(event.id.clone());
        let options = FollowOptions { on_progress: &on_progress, on_event: &on_event, ..FollowOptions::default() };
        let endpoint = fake.endpoint(&["sk-test"], |_| {});
        let followed = follow(&Jobs { endpoint: &endpoint, key: 0, pace: PACE }, "ftjob-1", &options).await.unwrap();
        assert_eq!(followed.told.job.status, JobStatus::Failed);
        let told = told.into_inner().unwrap();
        assert_eq!(told, (0..told.len()).map(|number| format!("ev-{number}")).collect::<Vec<_>>());
        assert_eq!(told.len(), fake.world().events.len());
        // There is no result file: the curve is what was said.
        assert_eq!((followed.curve[1].step, followed.curve[1].train_loss), (1, Some(0.1)));
    }

    #[tokio::test]
    async fn only_a_provider_that_says_no_ends_the_following() {
        let fake = with_job("running", json!({})).await;
        let endpoint = fake.endpoint(&["sk-test"], |_| {});
        let jobs = Jobs { endpoint: &endpoint, key: 0, pace: PACE };
        fake.world().stumbles.push_back(401);
        let fault = follow(&jobs, "ftjob-1", &FollowOptions::default()).await.unwrap_err();
        assert_eq!(fault.class, Class::Authentication);
        let fault = follow(&jobs, "ftjob-2", &FollowOptions::default()).await.unwrap_err();
        assert_eq!(fault.class, Class::NotFound);
    }
}
