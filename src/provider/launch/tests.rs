//! Every way to die, to lose an answer and to race: each ends with exactly one job and a row that says so.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::fake::{Fake, Fault};
use super::*;
use crate::data::random::Random;
use crate::error::Kind;
use crate::provider::settings::{Dialect, ProviderSettings};
use crate::store::LaunchError;

const PACE: f64 = 0.0005;

fn clock() -> SystemTime {
    SystemTime::now()
}

fn options() -> LaunchOptions<'static> {
    LaunchOptions { pace: PACE, ..LaunchOptions::new(&clock) }
}

fn order<'a>(key: &str, hyperparameters: &'a Hyperparameters) -> Order<'a> {
    Order {
        key: Digest::of(key.as_bytes()),
        replicate: 0,
        label: "gpt on rows",
        model: "gpt-4.1",
        rows: Bytes::from_static(b"{\"messages\": []}\n"),
        validation: None,
        hyperparameters,
        estimated_dollars: Some(2.5),
        run: "run-1",
    }
}

/// A row as an attempt writes it.
pub(super) fn row(attempt: &str, suffix: &str) -> Launch {
    Launch {
        key: Digest::of(b"k"),
        replicate: 0,
        label: "gpt on rows".into(),
        attempt: attempt.into(),
        state: LaunchState::Intent,
        provider: "fake".into(),
        identity: "org/proj_1".into(),
        model: "gpt-4.1".into(),
        request: Value::Null,
        suffix: suffix.into(),
        file_id: "file-1".into(),
        job_id: None,
        fine_tuned_model: None,
        status: None,
        error: None,
        trained_tokens: None,
        estimated_dollars: None,
        dollars: None,
        run: "run".into(),
        created_at: clock(),
        intent_at: clock(),
        updated_at: clock(),
        superseded_at: None,
    }
}

/// Launches `k` on a store in `folder`, opened for this alone.
async fn run(
    folder: &std::path::Path,
    fake: &Fake,
    options: &LaunchOptions<'_>,
    change: impl FnOnce(&mut ProviderSettings),
) -> Result<Launch> {
    let store = Store::open(folder).unwrap();
    let hyperparameters = Hyperparameters::default();
    launch(&store, &fake.endpoint(&["sk-test"], change), &order("k", &hyperparameters), options).await
}

fn unchanged(_: &mut ProviderSettings) {}

/// Launches again once a person has decided that what is lost is lost.
fn relaunching(settings: &mut ProviderSettings) {
    settings.relaunch_unknown_after_minutes = Some(0.0);
}

/// Exactly one job, and a row that says so.
fn assert_one_job(folder: &std::path::Path, fake: &Fake) -> Launch {
    let living = fake.living();
    assert_eq!(living.len(), 1, "{living:?}");
    let row = Store::open(folder).unwrap().get_launch(Digest::of(b"k")).unwrap().unwrap();
    assert_eq!(row.state, LaunchState::Launched);
    assert_eq!(row.job_id.as_deref(), living[0]["id"].as_str());
    row
}

#[tokio::test]
async fn a_job_is_bought_once_and_its_marks_and_row_are_whole() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    let first = run(folder.path(), &fake, &options(), unchanged).await.unwrap();
    let again = run(folder.path(), &fake, &options(), unchanged).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(assert_one_job(folder.path(), &fake), first);
    assert_eq!(fake.world().posts, 1);
    assert_eq!(fake.world().uploads, 1);
    let job = fake.living().remove(0);
    assert_eq!(job["metadata"]["drylab_key"], Digest::of(b"k").to_string());
    assert_eq!(job["metadata"]["drylab_launch"], first.attempt);
    assert!(job["suffix"].as_str().unwrap().ends_with(&first.attempt[..8]));
    assert_eq!(
        (first.identity.as_str(), first.estimated_dollars, first.run.as_str()),
        ("org/proj_1", Some(2.5), "run-1")
    );
    assert!(!first.request.to_string().contains("sk-test"));
    let store = Store::open(folder.path()).unwrap();
    let raw = store.get_responses(&[response_key("ftjob-1")]).unwrap().remove(0).unwrap();
    assert!(raw.body.contains("ftjob-1") && raw.request_id.as_deref() == Some("req_1"));
}

#[tokio::test]
async fn equal_rows_are_uploaded_once_and_found_by_a_store_that_forgot() {
    let fake = Fake::start().await;
    let hyperparameters = Hyperparameters::default();
    let endpoint = fake.endpoint(&["sk-test"], |settings| settings.most_jobs = 9);
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let orders = ["a", "b", "c"].map(|key| order(key, &hyperparameters));
        let options = options();
        let (a, b, c) = tokio::join!(
            launch(&store, &endpoint, &orders[0], &options),
            launch(&store, &endpoint, &orders[1], &options),
            launch(&store, &endpoint, &orders[2], &options),
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(fake.world().uploads, 1);
    }
    let (_, name, bytes) = fake.world().files[0].clone();
    assert_eq!(name, format!("{}.jsonl", crate::provider::sha256::sha256(&bytes)));
}

#[tokio::test]
async fn every_kill_point_ends_with_one_job() {
    use KillPoint::*;
    for point in [BeforeIntent, AfterIntent, AfterSend, AfterResponse, AfterCommit, DuringRecovery] {
        let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
        if point == DuringRecovery {
            fake.world().faults.push_back(Fault::AcceptThenDrop);
        }
        let died = AtomicBool::new(false);
        let at = |here: KillPoint| match here == point {
            true => {
                died.store(true, Ordering::SeqCst);
                Err(Error::new(Kind::Interrupted, "killed"))
            }
            false => Ok(()),
        };
        let killed = run(folder.path(), &fake, &LaunchOptions { at: &at, ..options() }, unchanged).await;
        assert!(died.load(Ordering::SeqCst) && killed.is_err(), "{point:?}");
        let jobs = usize::from(![BeforeIntent, AfterIntent].contains(&point));
        assert_eq!(fake.world().jobs.len(), jobs, "{point:?}");
        if point == AfterIntent {
            // Nobody can tell whether it was sent: a person decides.
            let error = run(folder.path(), &fake, &options(), unchanged).await.unwrap_err();
            assert!(error.help.unwrap().contains("relaunch_unknown_after_minutes"));
        }
        let found = run(folder.path(), &fake, &options(), relaunching).await.unwrap();
        assert_eq!(assert_one_job(folder.path(), &fake), found, "{point:?}");
        assert_eq!(fake.world().posts, 1, "{point:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_by_its_mark_and_nothing_is_sent_again() {
    for fault in [Fault::AcceptThenDrop, Fault::AcceptThen502, Fault::AcceptThenHalf] {
        for variant in 0..6 {
            let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
            {
                let mut world = fake.world();
                world.faults.push_back(fault);
                world.lag = [0, 7, 0, 3, 0, 2][variant];
                world.ignores_filter = variant >= 2;
                world.forgets_metadata = variant == 4;
                world.ignores_after = variant == 5;
                // Others launch too, before and after.
                for number in 0..8 {
                    let id = format!("other-{number}");
                    let other = json!({ "id": id, "status": "cancelled", "created_at": 5e9, "project": "proj_1" });
                    world.jobs.push(other);
                }
            }
            let found = run(folder.path(), &fake, &options(), unchanged).await.unwrap();
            assert_eq!(assert_one_job(folder.path(), &fake), found);
            assert_eq!(fake.world().posts, 1, "{fault:?} {variant}");
        }
    }
}

#[tokio::test]
async fn a_provider_without_metadata_is_searched_by_suffix() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world().faults.push_back(Fault::AcceptThenDrop);
    let together = |settings: &mut ProviderSettings| settings.dialect = Some(Dialect::Together);
    let found = run(folder.path(), &fake, &options(), together).await.unwrap();
    assert_eq!(assert_one_job(folder.path(), &fake), found);
    assert_eq!(fake.world().posts, 1);
    assert!(fake.living()[0]["metadata"].is_null() && found.request["training_method"]["method"] == "sft");
}

#[tokio::test]
async fn two_jobs_of_one_launch_are_one_afterwards() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world().faults.push_back(Fault::AcceptTwiceThenDrop);
    let notes = Mutex::new(Vec::new());
    let on_note = |note: &str| notes.lock().unwrap().push(note.to_string());
    // Dies once after the second was cancelled and before the first was written down.
    let deaths = AtomicUsize::new(0);
    let at = |here: KillPoint| match here == KillPoint::DuringRecovery && deaths.fetch_add(1, Ordering::SeqCst) == 0 {
        true => Err(Error::new(Kind::Interrupted, "killed")),
        false => Ok(()),
    };
    let options = LaunchOptions { on_note: &on_note, at: &at, ..options() };
    assert!(run(folder.path(), &fake, &options, unchanged).await.is_err());
    let found = run(folder.path(), &fake, &options, unchanged).await.unwrap();
    assert_eq!(found.job_id.as_deref(), Some("ftjob-1"), "the oldest is kept");
    assert_one_job(folder.path(), &fake);
    assert!(notes.lock().unwrap()[0].contains("`ftjob-1` counts, `ftjob-2` is cancelled"));
}

#[tokio::test]
async fn a_launch_that_left_no_trace_asks_a_person_and_a_late_job_of_it_is_cancelled() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    {
        let mut world = fake.world();
        world.faults.push_back(Fault::AcceptThenDrop);
        world.lag = 10_000;
    }
    let waits = Mutex::new(Vec::new());
    let on_wait = |wait: &Wait| waits.lock().unwrap().push(wait.clone());
    let error =
        run(folder.path(), &fake, &LaunchOptions { on_wait: &on_wait, ..options() }, unchanged).await.unwrap_err();
    assert!(error.message.contains("nobody knows whether `fake` has launched"), "{error}");
    assert!(waits.lock().unwrap().len() >= 8 && waits.lock().unwrap()[0].until.is_some());
    let lost = Store::open(folder.path()).unwrap().get_launch(Digest::of(b"k")).unwrap().unwrap();
    assert_eq!(lost.state, LaunchState::Unknown);
    assert!(error.help.unwrap().contains(&lost.suffix));
    assert_eq!(fake.world().posts, 1);

    fake.world().lag = 0;
    let second = run(folder.path(), &fake, &options(), relaunching).await.unwrap();
    assert_ne!(second.attempt, lost.attempt);
    assert_eq!(fake.living().len(), 2);
    // The first job shows at last.
    fake.world().show_all();
    let notes = AtomicUsize::new(0);
    let on_note = |_: &str| _ = notes.fetch_add(1, Ordering::SeqCst);
    let third = run(folder.path(), &fake, &LaunchOptions { on_note: &on_note, ..options() }, unchanged).await.unwrap();
    assert_eq!((third.attempt.as_str(), notes.load(Ordering::SeqCst)), (second.attempt.as_str(), 1));
    assert_one_job(folder.path(), &fake);
    let store = Store::open(folder.path()).unwrap();
    assert!(store.lost_launches("fake").unwrap().is_empty());
    assert_eq!(store.launch_attempts(Digest::of(b"k")).unwrap()[0].state, LaunchState::Cancelled);
}

#[tokio::test]
async fn refusals_are_final_for_now_and_harmless() {
    for (status, code) in [
        (400, "invalid_value"),
        (401, "invalid_api_key"),
        (403, "permission_denied"),
        (404, "model_not_found"),
        (422, "invalid_value"),
        (429, "insufficient_quota"),
    ] {
        let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
        fake.world().faults.push_back(Fault::Refuse(status, code, None));
        let error = run(folder.path(), &fake, &options(), unchanged).await.unwrap_err();
        assert!(error.message.contains(&format!("no job was launched: `fake` ({status}): said {code}")), "{error}");
        assert_eq!(fake.world().posts, 1, "{code}");
        let refused = Store::open(folder.path()).unwrap().get_launch(Digest::of(b"k")).unwrap().unwrap();
        assert_eq!(refused.state, LaunchState::Refused);
        assert_eq!(refused.error.unwrap().code.as_deref(), Some(code));
        // The same command again, after the account was mended.
        run(folder.path(), &fake, &options(), unchanged).await.unwrap();
        assert_one_job(folder.path(), &fake);
        assert_eq!(fake.world().posts, 2);
    }
}

#[tokio::test]
async fn a_busy_provider_is_waited_for() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world()
        .faults
        .extend([Fault::Refuse(429, "rate_limit_exceeded", Some(30)), Fault::Refuse(429, "rate_limit_exceeded", None)]);
    let waits = Mutex::new(Vec::new());
    let on_wait = |wait: &Wait| waits.lock().unwrap().push(wait.clone());
    run(folder.path(), &fake, &LaunchOptions { on_wait: &on_wait, ..options() }, unchanged).await.unwrap();
    assert_one_job(folder.path(), &fake);
    assert_eq!(waits.lock().unwrap().len(), 2);
    // And not for ever.
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world().faults.extend([Fault::Refuse(429, "rate_limit_exceeded", None); 9]);
    assert!(run(folder.path(), &fake, &options(), unchanged).await.is_err());
    assert_eq!(fake.world().posts, 5);
}

#[tokio::test]
async fn the_daily_limit_is_waited_for_without_a_busy_retry() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world().faults.push_back(Fault::Refuse(429, "daily_rate_limit_exceeded", Some(7200)));
    let waits = Mutex::new(Vec::new());
    let on_wait = |wait: &Wait| waits.lock().unwrap().push(wait.clone());
    let start = clock();
    // Two hours in a fraction of a second.
    let options = LaunchOptions { on_wait: &on_wait, pace: 0.00002, ..options() };
    run(folder.path(), &fake, &options, unchanged).await.unwrap();
    assert_one_job(folder.path(), &fake);
    assert_eq!(fake.world().posts, 2);
    let waits = waits.lock().unwrap();
    let [Wait { reason: WaitReason::DailyLimit(message), until: Some(until) }] = &waits[..] else {
        panic!("{waits:?}")
    };
    assert_eq!(message, "said daily_rate_limit_exceeded");
    let wait = until.duration_since(start).unwrap().as_secs();
    assert!((7199..7260).contains(&wait), "{wait}");
}

#[tokio::test]
async fn another_key_goes_on_when_the_day_of_the_first_is_used_up() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world().projects.insert("sk-second".into(), "proj_2".into());
    fake.world().faults.push_back(Fault::Refuse(429, "daily_rate_limit_exceeded", None));
    let store = Store::open(folder.path()).unwrap();
    let hyperparameters = Hyperparameters::default();
    let endpoint = fake.endpoint(&["sk-test", "sk-second"], unchanged);
    let found = launch(&store, &endpoint, &order("k", &hyperparameters), &options()).await.unwrap();
    assert_eq!((found.identity.as_str(), fake.living()[0]["project"].as_str()), ("org/proj_2", Some("proj_2")));
    assert_eq!(jobs_of(&endpoint, &found, PACE).await.unwrap().key, 1);
    assert_eq!(store.launch_attempts(found.key).unwrap().len(), 2);
}

#[tokio::test]
async fn a_swapped_key_is_no_reason_to_launch_again() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    fake.world().faults.push_back(Fault::AcceptThenDrop);
    let at = |here: KillPoint| match here {
        KillPoint::AfterSend => Err(Error::new(Kind::Interrupted, "killed")),
        _ => Ok(()),
    };
    assert!(run(folder.path(), &fake, &LaunchOptions { at: &at, ..options() }, unchanged).await.is_err());
    fake.world().projects.insert("sk-test".into(), "proj_2".into());
    let relaunch = LaunchOptions { relaunch: true, ..options() };
    let error = run(folder.path(), &fake, &relaunch, relaunching).await.unwrap_err();
    assert!(error.message.contains("`org/proj_1`") && error.message.contains("`org/proj_2`"), "{error}");
    assert_eq!(fake.world().posts, 1);
    fake.world().projects.insert("sk-test".into(), "proj_1".into());
    run(folder.path(), &fake, &options(), unchanged).await.unwrap();
    assert_one_job(folder.path(), &fake);
}

#[tokio::test]
async fn a_failed_job_is_bought_again_only_when_somebody_says_so() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    let bought = run(folder.path(), &fake, &options(), unchanged).await.unwrap();
    fake.set("ftjob-1", |job| {
        job["status"] = json!("failed");
        job["error"] = json!({ "code": "", "message": "too many examples were flagged", "param": null });
    });
    let endpoint = fake.endpoint(&["sk-test"], unchanged);
    let jobs = jobs_of(&endpoint, &bought, PACE).await.unwrap();
    let told = jobs.fetch("ftjob-1").await.unwrap();
    let failed = record_job(&Store::open(folder.path()).unwrap(), &bought, &told, clock()).unwrap();
    let class =
        LaunchError { class: "blocked_file".into(), code: None, message: "too many examples were flagged".into() };
    assert_eq!((failed.state, failed.error.as_ref()), (LaunchState::Failed, Some(&class)));
    assert_eq!(run(folder.path(), &fake, &options(), relaunching).await.unwrap(), failed);
    let told = crate::provider::failure::describe_failure(&failed).unwrap();
    assert_eq!(told.kind, Kind::Experiment);
    assert!(told.message.contains("too many examples") && told.help.unwrap().contains("moderation"));
    assert_eq!(fake.world().posts, 1);
    let again = run(folder.path(), &fake, &LaunchOptions { relaunch: true, ..options() }, unchanged).await.unwrap();
    assert_eq!((again.state, again.job_id.as_deref()), (LaunchState::Launched, Some("ftjob-2")));
    assert_eq!(Store::open(folder.path()).unwrap().launch_attempts(bought.key).unwrap().len(), 2);
}

#[tokio::test]
async fn no_more_jobs_than_may_be_are_unfinished_at_a_time() {
    // With a list that lags, the ledger counts what the list does not show.
    for lag in [0, 4] {
        let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
        fake.world().lag = lag;
        let store = Store::open(folder.path()).unwrap();
        let hyperparameters = Hyperparameters::default();
        let endpoint = fake.endpoint(&["sk-test"], |settings| settings.most_jobs = 2);
        let on_wait = |wait: &Wait| {
            assert!(matches!(wait.reason, WaitReason::Turn { most: 2, .. }), "{wait:?}");
            let mut world = fake.world();
            if let Some(job) = world.jobs.iter_mut().find(|job| job["status"] == "validating_files") {
                job["status"] = json!("succeeded");
            }
        };
        let options = LaunchOptions { on_wait: &on_wait, ..options() };
        let orders = ["a", "b", "c", "d", "e", "f"].map(|key| order(key, &hyperparameters));
        let [a, b, c, d, e, f] = &orders;
        let launch = |order| launch(&store, &endpoint, order, &options);
        // The rows are uploaded: the others ask for their turns at the same time.
        launch(a).await.unwrap();
        let (b, c, d, e, f) = tokio::join!(launch(b), launch(c), launch(d), launch(e), launch(f));
        for done in [b, c, d, e, f] {
            done.unwrap();
        }
        assert_eq!(fake.world().posts, 6);
        assert_eq!(fake.world().peak, 2);
    }
}

#[tokio::test]
async fn a_job_is_found_behind_those_of_others_and_by_clocks_that_differ() {
    for variant in 0..3 {
        let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
        fake.world().clock_behind = if variant == 0 { 7200 } else { 0 };
        fake.world().forgets_metadata = variant == 1;
        fake.world().ignores_filter = variant == 2;
        let at = |here: KillPoint| match here {
            KillPoint::AfterSend => Err(Error::new(Kind::Interrupted, "killed")),
            _ => Ok(()),
        };
        assert!(run(folder.path(), &fake, &LaunchOptions { at: &at, ..options() }, unchanged).await.is_err());
        let created = fake.world().jobs[0]["created_at"].clone();
        for number in 0..8 {
            let id = format!("other-{number}");
            let job = json!({ "id": id, "status": "cancelled", "created_at": created, "project": "proj_1" });
            fake.world().jobs.push(job);
        }
        run(folder.path(), &fake, &options(), unchanged).await.unwrap();
        assert_one_job(folder.path(), &fake);
        assert_eq!(fake.world().posts, 1, "{variant}");
    }
}

#[tokio::test]
async fn what_was_left_open_is_found_at_the_start_and_a_job_can_be_cancelled() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    let at = |here: KillPoint| match here {
        KillPoint::AfterResponse => Err(Error::new(Kind::Interrupted, "killed")),
        _ => Ok(()),
    };
    assert!(run(folder.path(), &fake, &LaunchOptions { at: &at, ..options() }, unchanged).await.is_err());
    let store = Store::open(folder.path()).unwrap();
    let endpoint = fake.endpoint(&["sk-test"], unchanged);
    let held = store.lock(Digest::of(b"k")).unwrap();
    let recovered = recover_all(&store, &endpoint, &options()).await.unwrap();
    assert!(recovered.adopted.is_empty() && recovered.open.is_empty(), "somebody works on it");
    drop(held);
    let recovered = recover_all(&store, &endpoint, &options()).await.unwrap();
    assert_eq!((recovered.adopted.len(), recovered.open.len()), (1, 0));
    assert_one_job(folder.path(), &fake);
    let cancelled = cancel_launch(&store, &endpoint, &recovered.adopted[0], &options()).await.unwrap();
    assert_eq!((cancelled.state, cancelled.error.unwrap().class.as_str()), (LaunchState::Cancelled, "cancelled"));
    assert_eq!(fake.living().len(), 0);
}

/// Two threads, each with its own store and runtime, as two processes have them.
fn race(folder: &std::path::Path, fake: &Fake, locked: bool) -> Vec<Launch> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let store = Store::open(folder).unwrap();
                    let _lock = locked.then(|| store.lock(Digest::of(b"k")).unwrap());
                    let hyperparameters = Hyperparameters::default();
                    let endpoint = fake.endpoint(&["sk-test"], unchanged);
                    runtime.block_on(launch(&store, &endpoint, &order("k", &hyperparameters), &options())).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_race_buy_one_job() {
    for round in 0..10 {
        let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
        if round % 3 == 1 {
            fake.world().faults.push_back(Fault::AcceptThen502);
        }
        let rows = tokio::task::block_in_place(|| race(folder.path(), &fake, round % 2 == 0));
        assert_eq!(rows[0].job_id, rows[1].job_id);
        assert_one_job(folder.path(), &fake);
        assert_eq!(fake.world().posts, 1);
    }
}

/// One round: some of everything that can go wrong, then runs until one comes through.
async fn stress(seed: u64) {
    let mut random = Random::new(seed);
    let mut below = |limit: u64| random.next_u64() % limit;
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    let faults = [
        Fault::AcceptThenDrop,
        Fault::AcceptThen502,
        Fault::AcceptThenHalf,
        Fault::AcceptTwiceThenDrop,
        Fault::Drop,
        Fault::Refuse(429, "rate_limit_exceeded", None),
        Fault::Refuse(429, "daily_rate_limit_exceeded", Some(60)),
        Fault::Refuse(400, "invalid_value", None),
    ];
    {
        let mut world = fake.world();
        for _ in 0..below(3) {
            world.faults.push_back(faults[below(8) as usize]);
        }
        world.lag = below(8) as usize;
        world.ignores_filter = below(2) == 0;
        world.forgets_metadata = below(4) == 0;
        world.forgets_suffix = !world.forgets_metadata && below(3) == 0;
    }
    use KillPoint::*;
    let points = [BeforeIntent, AfterIntent, AfterSend, AfterResponse, AfterCommit, DuringRecovery];
    let deaths: Mutex<VecDeque<KillPoint>> = Mutex::new((0..below(4)).map(|_| points[below(6) as usize]).collect());
    let at = |here: KillPoint| {
        let mut deaths = deaths.lock().unwrap();
        if deaths.front() == Some(&here) {
            deaths.pop_front();
            return Err(Error::new(Kind::Interrupted, "killed"));
        }
        Ok(())
    };
    let options = LaunchOptions { at: &at, pace: 0.0002, ..options() };
    let mut done = None;
    for _ in 0..20 {
        match run(folder.path(), &fake, &options, relaunching).await {
            Ok(row) => {
                done = Some(row);
                break;
            }
            Err(error) => assert!(error.kind != Kind::Internal, "seed {seed}: {error}"),
        }
    }
    let done = done.unwrap_or_else(|| panic!("seed {seed}: never came through"));
    let living = fake.living();
    assert_eq!(living.len(), 1, "seed {seed}: {living:?}");
    assert_eq!(assert_one_job(folder.path(), &fake), done, "seed {seed}");
    // And nothing changes any more.
    let posts = fake.world().posts;
    assert_eq!(
        run(folder.path(), &fake, &LaunchOptions { at: &|_| Ok(()), ..options }, unchanged).await.unwrap(),
        done
    );
    assert_eq!(fake.world().posts, posts, "seed {seed}");
}

#[tokio::test]
async fn random_misfortune_ends_with_one_job() {
    for seed in 0..20 {
        stress(seed).await;
    }
}

/// `cargo test --lib provider::launch -- --ignored`
#[tokio::test]
#[ignore = "some hundred rounds; a shorter version always runs"]
async fn much_random_misfortune_ends_with_one_job() {
    for seed in 100..500 {
        stress(seed).await;
    }
}

#[tokio::test]
async fn waits_are_measured_on_the_wall() {
    // The machine slept: after the first minute the clock says that the time is over.
    let start = clock();
    let asked = AtomicUsize::new(0);
    let now = || if asked.fetch_add(1, Ordering::SeqCst) == 0 { start } else { start + Duration::from_secs(90_000) };
    let options = LaunchOptions { pace: PACE, ..LaunchOptions::new(&now) };
    wait_until(start + Duration::from_secs(80_000), &options).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
