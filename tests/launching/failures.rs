//! Failures are told apart, told in the provider's words, and buy nothing twice.

use std::time::Duration;

use crate::customer::{Customer, JOBS, KEY, LOOKS};
use crate::fake_provider::{FOREVER, Failure, Fault, JobEnd, JobScript};
use crate::project::Ran;

/// The one line that says what went wrong, and what to do about it.
#[track_caller]
fn told(ran: &Ran) -> (&str, &str) {
    let mut errors = ran.stderr.lines().filter_map(|line| line.strip_prefix("error: "));
    let error = errors.next().unwrap_or_else(|| panic!("no error: {ran:#?}"));
    assert_eq!(errors.next(), None, "{ran:#?}");
    let help = ran.stderr.lines().find_map(|line| line.split_once("help: ")).map(|(_, help)| help);
    (error, help.unwrap_or_else(|| panic!("no help: {ran:#?}")))
}

#[test]
fn a_job_that_failed_is_reported_and_not_bought_again_by_itself() {
    let blocked = "This training file was blocked because too many examples were flagged by our moderation API";
    let cases = [
        (Failure::BlockedFile, "blocked_file", blocked, "the provider's moderation refused the rows"),
        (
            Failure::BlockedModel,
            "blocked_model",
            "Error while running moderation eval refusals_v3",
            "the provider's moderation refused the finished model, which was paid for",
        ),
        (
            Failure::InvalidTrainingFile,
            "invalid_file",
            "Example 6174 message contains an invalid token",
            "mend the rows",
        ),
        (
            Failure::Other {
                code: "exceeded_quota".into(),
                message: "Creating this fine-tuning job would exceed your hard limit.".into(),
                param: None,
                paid: false,
            },
            "quota",
            "would exceed your hard limit",
            "add credit at the provider",
        ),
        (Failure::Internal, "other", "The job failed due to an internal error", "ask for the job to be launched again"),
    ];
    std::thread::scope(|scope| {
        for (failure, class, words, help) in cases {
            scope.spawn(move || {
                let customer = Customer::new();
                customer.fake.script_next_job(JobScript::fails(failure));
                let first = customer.tune(&[]);
                let again = customer.tune(&[]);
                let job = customer.fake.jobs()[0].clone();
                for ran in [&first, &again] {
                    let (message, advice) = told(ran);
                    assert_eq!(ran.code, 1, "{ran:#?}");
                    assert!(
                        message.contains(words) && message.contains(&job.id) && message.contains("`lab`"),
                        "{ran:#?}"
                    );
                    assert!(advice.starts_with(help), "{ran:#?}");
                }
                let row = customer.row();
                assert_eq!((row["state"].as_str(), row["error"]["class"].as_str()), (Some("failed"), Some(class)));
                assert_eq!(row["trained_tokens"].as_u64().is_some(), class == "blocked_model", "{row:#}");
                assert_eq!(customer.posts(), 1);
                // Only when somebody says so.
                customer.tune(&["--relaunch"]).well();
                assert_eq!((customer.posts(), customer.row()["state"].as_str()), (2, Some("succeeded")));
                assert_eq!(customer.attempts(), ["-failed", "+succeeded"]);
                customer.tune(&["--relaunch"]).well();
                assert_eq!(customer.posts(), 2, "what went well is not bought again");
            });
        }
    });
}

#[test]
fn a_job_that_the_provider_cancelled_is_reported() {
    let customer = Customer::new();
    customer.fake.script_next_job(JobScript::of(&[("validating_files", 1)], JobEnd::Cancelled));
    let ran = customer.tune(&[]);
    assert!(told(&ran).0.contains("cancelled"), "{ran:#?}");
    assert_eq!((ran.code, customer.tune(&[]).code, customer.posts()), (1, 1, 1));
}

#[test]
fn a_refused_request_made_no_job_and_may_be_sent_again() {
    let cases = [
        (Fault::InsufficientQuota, 1, "You exceeded your current quota", "add credit at the provider"),
        (Fault::CreditExhausted, 1, "Your credit balance is exhausted", "add credit at the provider"),
        (Fault::Status(403), 2, "does not have permission to do this", "use a key, project or model that may do this"),
        (Fault::Status(401), 2, "Incorrect API key provided", "set the environment variable"),
        (Fault::Status(404), 2, "does not exist or you do not have access to it", "check the model's name"),
        (Fault::Status(400), 2, "Invalid value for 'model'", "mend what the provider complains about, field `model`"),
        (Fault::Status(422), 2, "Unprocessable value", "mend what the provider complains about, field `training_file`"),
    ];
    std::thread::scope(|scope| {
        for (fault, code, words, help) in cases {
            scope.spawn(move || {
                let customer = Customer::with_fault(fault.clone());
                let ran = customer.tune(&[]);
                let (message, advice) = told(&ran);
                assert_eq!((ran.code, customer.posts()), (code, 1), "{fault:?}: {ran:#?}");
                assert!(message.contains(words) && message.contains("no job was launched"), "{fault:?}: {ran:#?}");
                assert!(advice.starts_with(help), "{fault:?}: {ran:#?}");
                assert_eq!(customer.row()["state"], "refused");
                customer.finish();
                assert_eq!((customer.posts(), customer.fake.jobs().len()), (2, 1));
            });
        }
    });
}

#[test]
fn a_wrong_key_is_reported_before_anything_is_bought() {
    let customer = Customer::new();
    let ran = customer.tune_with("sk-wrong");
    let (message, help) = told(&ran);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(
        message.contains("Incorrect API key provided") && help.starts_with("set the environment variable"),
        "{ran:#?}"
    );
    assert_eq!((customer.fake.count("POST", "/"), customer.ledger().len()), (0, 0));
}

#[test]
fn a_daily_limit_is_waited_for_without_a_busy_retry() {
    let body = r#"{"error": {"message": "This fine-tune request has been rate-limited. Your organization has reached the maximum of 8 fine-tuning requests per day for the model 'gpt-4.1-2025-04-14'.", "type": "invalid_request_error", "param": null, "code": "daily_rate_limit_exceeded"}}"#;
    let headers = vec![("retry-after".to_string(), "2".to_string())];
    let customer = Customer::with_fault(Fault::Reply { status: 429, headers, body: body.into() });
    let (ran, _) = customer.finish();
    let note = ran.stderr.lines().find(|line| line.contains("waits")).unwrap_or_else(|| panic!("{ran:#?}"));
    assert!(note.starts_with("note: ") && note.contains("the maximum of 8 fine-tuning requests per day"), "{note}");
    assert!(note.contains(", until 20") && note.ends_with("Z at the latest"), "{note}");
    let posts = customer.fake.requests("POST", JOBS);
    assert_eq!(posts.len(), 2);
    assert!(posts[1].at - posts[0].at >= Duration::from_millis(1900), "{:?}", posts[1].at - posts[0].at);
    assert_eq!(customer.attempts(), ["-refused", "+succeeded"]);
}

#[test]
fn a_daily_limit_without_an_end_is_looked_at_once_an_hour() {
    let customer = Customer::new();
    customer.fake.fail_always("POST", JOBS, Fault::DailyLimit);
    let started = customer.start(&[]);
    customer.wait_until(|fake| fake.count("POST", JOBS) == 1);
    std::thread::sleep(Duration::from_millis(1500));
    started.signal("INT");
    let ran = started.end();
    assert_eq!((ran.code, customer.posts()), (130, 1), "{ran:#?}");
    assert!(ran.stderr.contains("fine-tuning requests per day") && ran.stderr.contains(", until 20"), "{ran:#?}");
    assert_eq!(customer.row()["state"], "refused");
    customer.fake.clear_faults();
    customer.finish();
}

#[test]
fn a_busy_provider_is_waited_for() {
    for fault in
        [Fault::RequestLimit { retry_after: Some(1) }, Fault::TokenLimit { retry_after: None }, Fault::SlowDown]
    {
        let customer = Customer::with_fault(fault.clone());
        let (ran, _) = customer.finish();
        assert!(ran.stderr.contains("waits: the provider is busy"), "{fault:?}: {ran:#?}");
        assert_eq!((customer.posts(), customer.fake.jobs().len()), (2, 1), "{fault:?}");
    }
}

#[test]
fn states_that_nobody_has_heard_of_are_followed_through() {
    let lives = [JobScript::reticulates(), JobScript::pauses(), JobScript::of(&[("", 2)], JobEnd::Succeeded)];
    for (number, life) in lives.into_iter().enumerate() {
        let customer = Customer::new();
        customer.fake.script_next_job(life);
        customer.finish();
        assert_eq!(customer.posts(), 1, "life {number}");
    }
    let customer = Customer::new();
    customer.fake.script_next_job(JobScript::of(&[("reticulating", FOREVER)], JobEnd::Succeeded));
    customer.kill_when(|fake| fake.count("GET", LOOKS) >= 4);
    let row = customer.row();
    assert_eq!((row["state"].as_str(), row["status"].as_str()), (Some("launched"), Some("reticulating")));
}

#[test]
fn a_job_that_succeeded_and_names_no_model_is_an_error() {
    let customer = Customer::new();
    customer.fake.script_next_job(JobScript::stays("succeeded"));
    for _ in 0..2 {
        let ran = customer.tune(&[]);
        let id = &customer.fake.jobs()[0].id;
        assert_eq!((ran.code, customer.posts()), (1, 1), "{ran:#?}");
        assert_eq!(
            told(&ran),
            (format!("`{id}` succeeded and names no model").as_str(), "look at the job at the provider")
        );
    }
}

#[test]
fn stumbles_while_a_job_is_followed_are_forgiven() {
    let customer = Customer::new();
    for (skipped, fault) in [
        (0, Fault::Status(500)),
        (1, Fault::CloseBeforeActing),
        (2, Fault::RequestLimit { retry_after: None }),
        (3, Fault::TruncatedBody),
        (4, Fault::MalformedJson),
        (5, Fault::Status(404)),
    ] {
        customer.fake.fail_after("GET", LOOKS, skipped, 1, fault);
    }
    customer.finish();
    assert_eq!(customer.posts(), 1);
}

#[test]
fn a_key_turns_up_nowhere() {
    let customer = Customer::new();
    customer.fake.set(|settings| settings.echo_keys = true);
    // A good end, a lost answer, a refusal that repeats the key as it is, one in the middle of a sentence, another key.
    let words = format!("the key {KEY} is not yours; Bearer {KEY}");
    let body = serde_json::json!({ "error": { "message": words, "type": "x", "param": KEY, "code": KEY } }).to_string();
    for fault in [
        Fault::Reply { status: 401, headers: vec![], body: body.clone() },
        Fault::Reply { status: 403, headers: vec![("x-request-id".into(), KEY.into())], body: body.clone() },
        Fault::ReplyAfterActing { status: 500, headers: vec![], body: words.clone() },
    ] {
        customer.fake.fail_next("POST", JOBS, 1, fault);
        customer.tune(&[]);
    }
    customer.finish();
    // The provider echoes a key that it does not know: here it knows none of them.
    let stranger = Customer::new();
    stranger.fake.set(|settings| (settings.echo_keys, settings.keys) = (true, Default::default()));
    stranger.fake.add_key("sk-of-somebody-else", "org-lab", "proj_lab");
    let ran = stranger.tune(&[]);
    assert!(ran.code == 2 && told(&ran).0.contains("Incorrect API key provided"), "{ran:#?}");
    for customer in [&customer, &stranger] {
        customer.run(&["status"]).well();
        customer.run(&["show"]);
        let mut files = 0;
        let mut folders = vec![customer.project.path("")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
                assert!(!found, "the key is in {}", path.display());
                files += 1;
            }
        }
        assert!(files > 5, "{files} files");
    }
}
