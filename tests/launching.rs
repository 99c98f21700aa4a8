//! Fine-tuning jobs are bought exactly once, whenever the process dies and whatever the provider's answers do.
#![allow(clippy::unwrap_used)]

mod fake_provider;
mod project;

#[path = "launching/customer.rs"]
mod customer;
#[path = "launching/failures.rs"]
mod failures;
#[path = "launching/ledger.rs"]
mod ledger;
#[path = "launching/stress.rs"]
mod stress;

use std::time::Duration;

use customer::{Customer, FILES, JOBS, LOOKS};
use fake_provider::{Fault, JobScript};
use serde_json::json;

#[test]
fn an_undisturbed_launch_is_one_request_and_one_job() {
    let customer = Customer::new();
    let (ran, job) = customer.finish();
    assert!(ran.stderr.contains("fine-tunes: 1 run, 0 cached"), "{ran:#?}");
    assert_eq!((customer.posts(), customer.attempts()), (1, vec!["+succeeded".to_string()]));
    let request = customer.fake.requests("POST", JOBS)[0].json();
    assert_eq!((&request["seed"], &request["model"]), (&json!(1), &json!("gpt-4.1-2025-04-14")));
    let attempt = &job.metadata["drylab_launch"];
    assert!(job.suffix.unwrap().ends_with(&attempt[..8]), "{attempt}");
    assert_eq!(job.metadata["drylab_key"], customer.row()["key"].as_str().unwrap());
    let asked = customer.fake.count("*", "/");
    customer.tune(&[]).well();
    assert_eq!(customer.fake.count("*", "/"), asked, "what is known is not asked for");
}

#[test]
fn killed_before_the_intent_it_buys_later() {
    let customer = Customer::new();
    customer.fake.fail_next("POST", FILES, 1, Fault::Stall);
    customer.kill_when(|fake| fake.faults_played("Stall") == 1);
    assert_eq!((customer.ledger().len(), customer.posts()), (0, 0));
    // This time the rows arrive, and nobody writes it down.
    customer.fake.fail_next("POST", FILES, 1, Fault::StallAfterActing);
    customer.kill_when(|fake| fake.files().len() == 1);
    customer.finish();
    assert_eq!((customer.posts(), customer.fake.count("POST", FILES)), (1, 2));
}

#[test]
fn killed_between_the_intent_and_the_request_it_asks_and_then_buys_one() {
    let customer = Customer::with_fault(Fault::Stall);
    customer.kill_when(|fake| fake.faults_played("Stall") == 1);
    let row = customer.row();
    assert_eq!((row["state"].as_str(), &row["job"]), (Some("intent"), &json!(null)));
    // From here this cannot be told from a job that the list does not show yet: nothing is bought without a word.
    for _ in 0..2 {
        let ran = customer.tune(&[]);
        assert_eq!((ran.code, customer.posts()), (1, 1), "{ran:#?}");
        assert!(ran.stderr.contains("nobody knows whether `lab` has launched the job of 20"), "{ran:#?}");
        assert!(ran.stderr.contains("help: ") && ran.stderr.contains("relaunch_unknown_after_minutes"), "{ran:#?}");
        assert!(ran.stderr.contains("looking for the job `…drylab-"), "{ran:#?}");
    }
    customer.relaunch_soon();
    let (ran, _) = customer.finish();
    assert!(ran.stderr.contains("no trace of the launch of 20"), "{ran:#?}");
    assert_eq!((customer.posts(), customer.attempts()), (2, vec!["-unknown".into(), "+succeeded".into()]));
}

#[test]
fn killed_between_the_request_and_its_answer_it_finds_the_job() {
    let customer = Customer::with_fault(Fault::StallAfterActing);
    customer.kill_when(|fake| fake.jobs().len() == 1);
    assert_eq!(customer.row()["state"], "intent");
    customer.finish();
    assert_eq!((customer.posts(), customer.attempts()), (1, vec!["+succeeded".to_string()]));
}

#[test]
fn whatever_runs_next_writes_down_what_was_lost() {
    let customer = Customer::with_fault(Fault::StallAfterActing);
    customer.kill_when(|fake| fake.jobs().len() == 1);
    customer.project.write("other.rhai", "//! Another\n//! Does it look?\nprint(\"done\");");
    // Without a network it says nothing and does no harm.
    customer.run(&["run", "other.rhai", "--offline"]).well();
    assert_eq!(customer.row()["state"], "intent");
    let ran = customer.run(&["run", "other.rhai"]).well();
    let (row, job) = (customer.row(), customer.fake.jobs()[0].id.clone());
    assert_eq!((row["state"].as_str(), row["job"].as_str()), (Some("launched"), Some(job.as_str())));
    assert!(ran.stderr.contains(&format!("job `{job}` of `lab` was found: medical_advice misaligned")), "{ran:#?}");
    let asked = customer.fake.count("*", "/");
    customer.run(&["run", "other.rhai"]).well();
    assert_eq!(customer.fake.count("*", "/"), asked, "a run that uses no provider asks one for nothing");
    customer.finish();
    assert_eq!(customer.posts(), 1);
}

#[test]
fn killed_between_the_answer_and_its_commit_it_finds_the_job() {
    let customer = Customer::with_fault(Fault::Slow(Duration::from_millis(300)));
    let started = customer.start(&[]);
    customer.wait_until(|fake| fake.jobs().len() == 1);
    // While somebody else writes, the answer arrives and cannot be written down.
    let writer = customer.index();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    customer.wait_until(|fake| fake.open_requests() == 0);
    std::thread::sleep(Duration::from_millis(100));
    started.kill();
    drop(writer);
    assert_eq!(customer.row()["state"], "intent");
    customer.finish();
    assert_eq!((customer.posts(), customer.attempts()), (1, vec!["+succeeded".to_string()]));
}

#[test]
fn killed_right_after_the_commit_it_finds_the_job() {
    for delay in 0..4 {
        let customer = Customer::new();
        let started = customer.start(&[]);
        customer.wait_until(|fake| fake.jobs().len() == 1);
        std::thread::sleep(Duration::from_micros(1500 * delay));
        started.kill();
        println!("killed as {}", customer.row()["state"]);
        customer.finish();
        assert_eq!(customer.posts(), 1, "killed {delay} times 1.5 ms after the job was made");
    }
}

#[test]
fn killed_while_it_follows_the_job_it_follows_on() {
    let customer = Customer::new();
    customer.fake.script_next_job(JobScript::stays("running"));
    for looks in [3, 12] {
        customer.kill_when(|fake| fake.count("GET", LOOKS) >= looks);
        let row = customer.row();
        assert_eq!((row["state"].as_str(), row["status"].as_str()), (Some("launched"), Some("running")));
    }
    customer.fake.finish_job(&customer.fake.jobs()[0].id);
    customer.finish();
    assert_eq!(customer.posts(), 1);
}

#[test]
fn killed_during_recovery_it_recovers_next_time() {
    let customer = Customer::with_fault(Fault::StallAfterActing);
    customer.kill_when(|fake| fake.jobs().len() == 1);
    for (round, listed) in [0, 1].into_iter().enumerate() {
        customer.fake.fail_after("GET", JOBS, listed, 1, Fault::Stall);
        customer.kill_when(|fake| fake.faults_played("Stall") == round as u64 + 1);
        assert_eq!(customer.row()["state"], "intent");
    }
    customer.finish();
    assert_eq!(customer.posts(), 1);
}

#[test]
fn killed_while_it_cancels_a_double_it_cancels_it_next_time() {
    let customer = Customer::with_fault(Fault::StallAfterActing);
    customer.fake.make_twins(1);
    customer.kill_when(|fake| fake.jobs().len() == 2);
    let cancel = format!("{LOOKS}{}/cancel", customer.fake.jobs()[1].id);
    for fault in [Fault::Stall, Fault::StallAfterActing] {
        let asked = customer.fake.count("POST", &cancel);
        customer.fake.fail_next("POST", &cancel, 1, fault);
        customer.kill_when(|fake| fake.count("POST", &cancel) == asked + 1);
    }
    let (_, job) = customer.finish();
    assert_eq!((customer.posts(), &job.id), (1, &customer.fake.jobs()[0].id));
}

#[test]
fn interrupted_it_leaves_a_job_that_the_next_run_finds() {
    for fault in [Fault::StallAfterActing, Fault::Slow(Duration::ZERO)] {
        let customer = Customer::with_fault(fault.clone());
        customer.fake.script_next_job(JobScript::stays("running"));
        let started = customer.start(&[]);
        customer.wait_until(|fake| fake.jobs().len() == 1);
        started.signal("INT");
        let ran = started.end();
        assert_eq!(ran.code, 130, "{fault:?}: {ran:#?}");
        assert!(ran.stderr.contains("run the same command again"), "{ran:#?}");
        customer.fake.finish_job(&customer.fake.jobs()[0].id);
        customer.finish();
        assert_eq!(customer.posts(), 1, "{fault:?}");
    }
}

#[test]
fn a_lost_answer_is_found_by_the_same_run() {
    let unreadable = || ("text/html".to_string(), "<html>ok</html>".to_string());
    let faults = [
        Fault::CloseAfterActing,
        Fault::ResetAfterActing,
        Fault::TruncatedBody,
        Fault::MalformedJson,
        Fault::BadGatewayAfterActing,
        Fault::StatusAfterActing(500),
        Fault::StatusAfterActing(504),
        Fault::StatusAfterActing(409),
        Fault::StatusAfterActing(408),
        Fault::ReplyAfterActing { status: 200, headers: vec![], body: unreadable().1 },
        Fault::ReplyAfterActing { status: 200, headers: vec![], body: "{}".into() },
    ];
    std::thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let customer = Customer::with_fault(fault.clone());
                customer.finish();
                assert_eq!(customer.posts(), 1, "{fault:?}");
            });
        }
    });
}

#[test]
fn a_request_that_did_nothing_is_not_repeated_without_a_word() {
    let faults = [Fault::CloseBeforeActing, Fault::ResetBeforeActing, Fault::Status(503), Fault::Status(500)];
    std::thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let customer = Customer::with_fault(fault.clone());
                let ran = customer.tune(&[]);
                assert_eq!((ran.code, customer.posts()), (1, 1), "{fault:?}: {ran:#?}");
                assert_eq!(customer.row()["state"], "unknown", "{fault:?}");
                customer.tune(&["--relaunch"]).well();
                customer.assert_one_job();
                assert_eq!(customer.posts(), 2, "{fault:?}");
            });
        }
    });
}

#[test]
fn a_late_effect_is_waited_for() {
    let soon = Customer::with_fault(Fault::CloseThenAct(Duration::from_millis(500)));
    soon.finish();
    assert_eq!(soon.posts(), 1);
    // Later than anybody looks: a person is asked, and by then it is there.
    let late = Customer::with_fault(Fault::CloseThenAct(Duration::from_secs(3)));
    let ran = late.tune(&[]);
    assert_eq!((ran.code, late.fake.jobs().len()), (1, 0), "{ran:#?}");
    late.wait_until(|fake| fake.jobs().len() == 1);
    late.finish();
    assert_eq!((late.posts(), late.attempts()), (1, vec!["+succeeded".to_string()]));
}

#[test]
fn a_late_job_of_an_attempt_that_was_given_up_is_cancelled_by_the_run_that_goes_on() {
    let customer = Customer::with_fault(Fault::CloseThenAct(Duration::from_secs(3)));
    customer.relaunch_soon();
    customer.fake.set(|settings| settings.job_script = JobScript::stays("running"));
    let started = customer.start(&[]);
    customer.wait_until(|fake| fake.jobs().len() == 2);
    // The one that was asked for first came last.
    let jobs = customer.fake.jobs();
    customer.fake.finish_job(&jobs[0].id);
    let ran = started.end().well();
    assert_eq!(customer.assert_one_job().id, jobs[0].id);
    assert!(ran.stderr.contains("two jobs came of one launch"), "{ran:#?}");
    assert_eq!((customer.posts(), customer.attempts()), (2, vec!["-cancelled".into(), "+succeeded".into()]));
}

#[test]
fn a_late_job_of_an_attempt_that_was_given_up_is_cancelled_by_a_later_run() {
    for killed in [true, false] {
        let customer = Customer::with_fault(Fault::CloseThenAct(Duration::from_secs(4)));
        customer.relaunch_soon();
        customer.fake.set(|settings| settings.job_script = JobScript::stays("running"));
        let started = customer.start(&[]);
        customer.wait_until(|fake| fake.count("GET", LOOKS) >= 3);
        let first = customer.fake.jobs()[0].id.clone();
        match killed {
            true => started.kill(),
            false => {
                customer.fake.finish_job(&first);
                started.end().well();
            }
        }
        customer.wait_until(|fake| fake.jobs().len() == 2);
        if killed {
            customer.fake.finish_job(&first);
        }
        customer.tune(&[]).well();
        assert_eq!(customer.assert_one_job().id, first, "killed: {killed}");
        assert_eq!(customer.posts(), 2);
    }
}

#[test]
fn a_list_that_lags_is_waited_for() {
    let little = Customer::with_fault(Fault::CloseAfterActing);
    little.fake.set(|settings| settings.list_lag_calls = 3);
    little.finish();
    assert_eq!(little.posts(), 1);
    let much = Customer::with_fault(Fault::CloseAfterActing);
    much.fake.set(|settings| settings.list_lag_calls = 7);
    let ran = much.tune(&[]);
    assert_eq!((ran.code, much.posts()), (1, 1), "{ran:#?}");
    much.finish();
    assert_eq!(much.posts(), 1);
}

#[test]
fn a_server_that_ignores_filters_is_read_page_by_page() {
    let customer = Customer::with_fault(Fault::CloseAfterActing);
    customer.fake.set(|settings| (settings.ignore_filters, settings.page_cap) = (true, 20));
    let insert = |count: usize| {
        for number in 0..count {
            let metadata = json!({ "drylab_key": format!("{number:064x}"), "drylab_launch": format!("{number:032x}") });
            let body =
                json!({ "model": "gpt-4.1", "training_file": "file-x", "suffix": "other", "metadata": metadata });
            let id = customer.fake.insert_job("proj_lab", body);
            customer.fake.finish_job(&id);
        }
    };
    insert(70);
    customer.kill_when(|fake| fake.faults_played("CloseAfterActing") == 1);
    // Ours is not on the first page any more.
    insert(70);
    customer.tune(&[]).well();
    let ours: Vec<_> = customer.fake.jobs().into_iter().filter(|job| job.training_file != "file-x").collect();
    assert_eq!((ours.len(), customer.posts()), (1, 1));
    assert_eq!(customer.row()["job"], ours[0].id.as_str());
    assert_eq!(customer.fake.live_jobs().len(), 141, "a job of somebody else was cancelled");
}

#[test]
fn of_two_jobs_the_oldest_is_kept_and_the_other_cancelled() {
    let twins = Customer::with_fault(Fault::CloseAfterActing);
    twins.fake.make_twins(1);
    let (ran, job) = twins.finish();
    let jobs = twins.fake.jobs();
    let told = format!("two jobs came of one launch: `{}` counts, `{}` is cancelled", jobs[0].id, jobs[1].id);
    assert!(ran.stderr.contains(&told), "{ran:#?}");
    assert_eq!((&job.id, jobs.len(), twins.posts()), (&jobs[0].id, 2, 1));
    // Their answer came, and nobody saw a reason to doubt it; the list shows them sooner or later.
    for lag in [0, 3] {
        let twins = Customer::new();
        twins.fake.make_twins(1);
        twins.fake.set(|settings| settings.list_lag_calls = lag);
        let (ran, job) = twins.finish();
        assert!(ran.stderr.contains("two jobs came of one launch"), "{ran:#?}");
        assert_eq!((job.id, twins.posts()), (twins.fake.jobs()[0].id.clone(), 1));
    }
    // Somebody's proxy repeats the request between two runs.
    let copied = Customer::with_fault(Fault::StallAfterActing);
    copied.kill_when(|fake| fake.jobs().len() == 1);
    let first = copied.fake.jobs()[0].id.clone();
    copied.fake.duplicate_job(&first);
    copied.fake.duplicate_job(&first);
    let (_, job) = copied.finish();
    assert_eq!((job.id, copied.posts()), (first, 1));
}

#[test]
fn without_metadata_the_suffix_tells() {
    for lag in [0, 3] {
        let customer = Customer::with_fault(Fault::CloseAfterActing);
        customer.fake.set(|settings| (settings.forget_metadata, settings.list_lag_calls) = (true, lag));
        customer.finish();
        assert_eq!(customer.posts(), 1);
    }
}

#[test]
fn a_key_of_another_project_launches_nothing_again() {
    let customer = Customer::with_fault(Fault::StallAfterActing);
    customer.relaunch_soon();
    customer.fake.add_key("sk-of-another-project", "org-lab", "proj_other");
    customer.kill_when(|fake| fake.jobs().len() == 1);
    let ran = customer.tune_with("sk-of-another-project");
    assert_eq!((ran.code, customer.posts()), (2, 1), "{ran:#?}");
    assert!(ran.stderr.contains("may have been launched for `org-lab/proj_lab` at `lab`"), "{ran:#?}");
    assert!(ran.stderr.contains("`org-lab/proj_other`") && ran.stderr.contains("help: "), "{ran:#?}");
    customer.finish();
    // A job that is known cannot be seen with the other key either, and is not bought again.
    let customer = Customer::new();
    customer.fake.add_key("sk-of-another-project", "org-lab", "proj_other");
    customer.fake.script_next_job(JobScript::stays("running"));
    customer.kill_when(|fake| fake.count("GET", LOOKS) >= 3);
    let ran = customer.tune_with("sk-of-another-project");
    assert_eq!((ran.code, customer.posts()), (2, 1), "{ran:#?}");
    customer.fake.finish_job(&customer.fake.jobs()[0].id);
    customer.finish();
}

#[test]
fn two_processes_that_race_buy_one_job() {
    for round in 0..5 {
        let customer = Customer::new();
        if round % 2 == 1 {
            customer.fake.fail_next("POST", JOBS, 1, Fault::CloseAfterActing);
        }
        let racers = [customer.start(&[]), customer.start(&[]), customer.start(&[])];
        let printed: Vec<String> = racers.map(|racer| racer.end().well().stdout).into();
        assert!(printed.iter().all(|text| *text == printed[0]), "{printed:?}");
        customer.assert_one_job();
        assert_eq!((customer.posts(), customer.fake.count("POST", FILES)), (1, 1), "round {round}");
    }
}

#[test]
fn a_process_takes_over_from_one_that_is_killed_under_its_eyes() {
    let customer = Customer::with_fault(Fault::StallAfterActing);
    let first = customer.start(&[]);
    customer.wait_until(|fake| fake.jobs().len() == 1);
    let second = customer.start(&[]);
    std::thread::sleep(Duration::from_millis(200));
    first.kill();
    second.end().well();
    customer.assert_one_job();
    assert_eq!(customer.posts(), 1);
}
