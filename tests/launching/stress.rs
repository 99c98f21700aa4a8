//! Rounds of random misfortune: whatever is drawn, one job is alive in the end and the ledger knows it.

use std::time::Duration;

use crate::customer::{Customer, FILES, JOBS, LOOKS, Started};
use crate::fake_provider::{Fault, JobScript};

/// Numbers that follow from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = 6_364_136_223_846_793_005_u64.wrapping_mul(self.0).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// Something that may go wrong with a request for a job.
fn draw_fault(draw: &mut Draw) -> Option<Fault> {
    let late = Duration::from_millis(draw.below(2500));
    Some(match draw.below(17) {
        0 => Fault::CloseBeforeActing,
        1 => Fault::ResetBeforeActing,
        2 => Fault::CloseAfterActing,
        3 => Fault::ResetAfterActing,
        4 => Fault::CloseThenAct(late),
        5 => Fault::BadGatewayAfterActing,
        6 => Fault::StatusAfterActing(500),
        7 => Fault::Status(503),
        8 => Fault::MalformedJson,
        9 => Fault::TruncatedBody,
        10 => Fault::StallAfterActing,
        11 => Fault::Stall,
        12 => Fault::RequestLimit { retry_after: None },
        13 => Fault::InsufficientQuota,
        14 => Fault::Slow(late / 10),
        _ => return None,
    })
}

/// One life of a launch. What it did, for the message of a failure, and the runs that it took.
fn play(seed: u64) -> (String, usize) {
    let mut draw = Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1));
    let customer = Customer::new();
    let mut story = format!("seed {seed}:");
    let mut is_late = false;
    if let Some(fault) = draw_fault(&mut draw) {
        story += &format!(" {fault:?};");
        is_late = matches!(fault, Fault::CloseThenAct(_));
        customer.fake.fail_next("POST", JOBS, 1, fault);
    }
    if draw.one_in(4) {
        let (skipped, fault) = (
            draw.below(6),
            [Fault::Status(500), Fault::CloseBeforeActing, Fault::Stall][draw.below(3) as usize].clone(),
        );
        story += &format!(" list {skipped}: {fault:?};");
        customer.fake.fail_after("GET", JOBS, skipped, 1, fault);
    }
    if draw.one_in(6) {
        let fault = [Fault::CloseAfterActing, Fault::StallAfterActing][draw.below(2) as usize].clone();
        story += &format!(" upload: {fault:?};");
        customer.fake.fail_next("POST", FILES, 1, fault);
    }
    let (lag, forgets, ignores, twins) = (draw.below(4) as u32, draw.one_in(4), draw.one_in(3), draw.one_in(5));
    story += &format!(" lag {lag}, forgets {forgets}, ignores {ignores}, twins {twins};");
    customer.fake.set(|settings| {
        settings.list_lag_calls = lag;
        settings.forget_metadata = forgets;
        settings.ignore_filters = ignores;
        settings.job_script = JobScript::succeeds();
    });
    if twins {
        customer.fake.make_twins(1);
    }
    // Up to three blows, each on one or two processes.
    for blow in 0..draw.below(4) {
        let racing = draw.one_in(3);
        let started: Vec<Started> = (0..1 + usize::from(racing)).map(|_| customer.start(&[])).collect();
        let delay = Duration::from_millis(match draw.below(3) {
            0 => draw.below(60),
            1 => draw.below(300),
            _ => draw.below(1500),
        });
        if draw.one_in(2) {
            customer.fake.wait_until(Duration::from_millis(1500), |fake| !fake.jobs().is_empty());
            std::thread::sleep(delay / 20);
        } else {
            std::thread::sleep(delay);
        }
        let running = started.into_iter().map(Started::kill_if_running).filter(|was_running| *was_running).count();
        story += &format!(" blow {blow} after {delay:?} hit {running};");
    }
    // What stalls for ever would only make this slow; everything else may still come.
    if story.contains("Stall") {
        customer.fake.clear_faults();
    }
    customer.relaunch_soon();
    let racing = draw.one_in(3);
    let mut runs = 0;
    loop {
        runs += 1;
        let started: Vec<Started> = (0..1 + usize::from(racing)).map(|_| customer.start(&[])).collect();
        let ended: Vec<_> = started.into_iter().map(Started::end).collect();
        if ended.iter().all(|ran| ran.code == 0) {
            break;
        }
        assert!(runs < 5, "{story} {ended:#?}");
    }
    if is_late {
        // A job may turn up behind everybody's back; the next runs see to it, as soon as the list shows it.
        std::thread::sleep(Duration::from_millis(2600));
        customer.tune(&[]).well();
        customer.tune(&[]).well();
    }
    story += &format!(" {runs} runs, racing {racing}");
    let live = customer.fake.live_jobs();
    let rows = customer.ledger();
    let told = (rows.len(), rows[0]["state"].as_str(), rows[0]["job"].as_str());
    let problem = || format!("{story}\n{live:#?}\n{rows:#?}\n{:?}", customer.attempts());
    assert_eq!(live.len(), 1, "{}", problem());
    assert_eq!(told, (1, Some("succeeded"), Some(live[0].id.as_str())), "{}", problem());
    let (asked, looks) = (customer.posts(), customer.fake.count("GET", LOOKS));
    customer.tune(&[]).well();
    assert_eq!((customer.posts(), customer.fake.count("GET", LOOKS)), (asked, looks), "{}", problem());
    (story, runs)
}

fn play_all(seeds: std::ops::Range<u64>, at_once: usize) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let (story, _) = play(seed);
                    println!("{story}");
                }
            });
        }
    });
}

#[test]
fn random_misfortune_ends_with_one_job() {
    play_all(0..12, 2);
}

#[test]
#[ignore = "minutes: 200 rounds, DRYLAB_ROUNDS of them, from DRYLAB_SEED on"]
fn much_random_misfortune_ends_with_one_job() {
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let first = number("DRYLAB_SEED", 1000);
    play_all(first..first + number("DRYLAB_ROUNDS", 200), 3);
}
