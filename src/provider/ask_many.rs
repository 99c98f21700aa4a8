//! Asks many questions at a time: pulled as there is room, answered in any order, each exactly once.

use std::time::Duration;

use tokio::task::JoinSet;

use super::chat::{Chat, ChatAnswer, stops_all};
use super::fault::{Class, Fault};
use super::wire::chat::ChatRequest;
use crate::error::{Error, Kind, Result};

/// How often somebody who wants to stop is listened to.
const LISTEN: Duration = Duration::from_millis(100);

/// Asks all `requests` and gives each answer, or the reason why there is none, to `on_answer` once, in any order. No
/// more requests are pulled than may be under way, so that memory does not grow with their number.
///
/// Ends early when `on_answer` fails, when `cancelled` says so, or when no request can succeed any more (no key or no
/// money left, no server from the start): then with that reason, once, instead of one fault per request. What was under
/// way when the money ended is still awaited, since it is paid for; what was under way when somebody cancelled is given
/// up.
///
/// # Errors
/// The reason of an early end.
pub async fn ask_many(
    chat: &Chat,
    requests: impl IntoIterator<Item = (usize, ChatRequest)>,
    mut on_answer: impl FnMut(usize, Result<ChatAnswer, Fault>) -> Result<()>,
    cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let most = chat.endpoint().settings().most_in_flight.max(1);
    let mut requests = requests.into_iter();
    // Dropping the set ends what is under way.
    let mut under_way: JoinSet<(usize, Result<ChatAnswer, Fault>)> = JoinSet::new();
    let mut end = End { stop: None, is_reached: false };
    let mut listen = tokio::time::interval(LISTEN);
    loop {
        while end.stop.is_none() && under_way.len() < most {
            let Some((index, request)) = requests.next() else { break };
            let chat = chat.clone();
            under_way.spawn(async move { (index, chat.ask(&request).await) });
        }
        let finished = tokio::select! {
            finished = under_way.join_next() => finished,
            _ = listen.tick() => {
                if !cancelled() {
                    continue;
                }
                // What has come already is not thrown away.
                while let Some(finished) = under_way.try_join_next() {
                    take(finished, &mut end, &mut on_answer)?;
                }
                return Err(Error::new(Kind::Interrupted, "stopped")
                    .with_help("run the same command again: what is finished is not repeated"));
            }
        };
        let Some(finished) = finished else { break };
        take(finished, &mut end, &mut on_answer)?;
        while let Some(finished) = under_way.try_join_next() {
            take(finished, &mut end, &mut on_answer)?;
        }
    }
    end.stop.map_or(Ok(()), |fault| Err(fault.into_error(chat.endpoint().name())))
}

/// Whether the end has come early.
struct End {
    /// Why nothing more can succeed.
    stop: Option<Fault>,
    /// Whether any request got as far as the server.
    is_reached: bool,
}

fn take(
    finished: Result<(usize, Result<ChatAnswer, Fault>), tokio::task::JoinError>,
    end: &mut End,
    on_answer: &mut impl FnMut(usize, Result<ChatAnswer, Fault>) -> Result<()>,
) -> Result<()> {
    let (index, answer) =
        finished.map_err(|error| Error::internal(format!("a call ended without an answer: {error}")))?;
    match answer {
        Err(fault) if stops_all(&fault) || (fault.class == Class::NotSent && !end.is_reached) => {
            end.stop.get_or_insert(fault);
            Ok(())
        }
        answer => {
            end.is_reached = true;
            on_answer(index, answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::super::loopback::{self, Asked, Reply, completion, question, serve};
    use super::*;
    use crate::data::random::Random;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_call_comes_back_once_whatever_happens_on_the_way() {
        let calls = Mutex::new(0u64);
        let url = serve(move |asked: Asked| {
            let number = {
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                *calls
            };
            let text = asked.json()["messages"][0]["content"].as_str().unwrap().to_string();
            match Random::stream(1, &[number]).below(50) {
                0 => Reply::error(429, "rate_limit_exceeded", None).with("retry-after-ms", "10"),
                1 => Reply::error(500, "server_error", None),
                2 => Reply::Drop,
                3 => Reply::Say(200, vec![], "{\"id\": \"c".to_string()),
                4 => Reply::SayAfter(Duration::from_secs(2), 200, completion("late").to_string()),
                _ if text == "13" => Reply::error(400, "context_length_exceeded", None),
                _ => Reply::chat(&text),
            }
        })
        .await;
        let chat = loopback::chat(&url, &[], |settings| settings.timeout_seconds = 0.2);
        let mut seen = vec![0; 2000];
        let requests = (0..2000).map(|index| (index, question(&index.to_string())));
        let mut failed = Vec::new();
        ask_many(
            &chat,
            requests,
            |index, answer| {
                seen[index] += 1;
                match answer {
                    Ok(answer) => assert_eq!(answer.text, index.to_string()),
                    Err(fault) => failed.push((index, fault.class)),
                }
                Ok(())
            },
            &|| false,
        )
        .await
        .unwrap();
        assert!(seen.iter().all(|count| *count == 1));
        assert_eq!(failed, [(13, Class::BadRequest)]);
    }

    #[tokio::test]
    async fn requests_are_pulled_as_there_is_room() {
        let url = serve(|_| Reply::chat("ok")).await;
        let chat = loopback::chat(&url, &[], |settings| settings.most_in_flight = 8);
        let (pulled, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let requests = (0..200).map(|index| {
            let ahead = pulled.fetch_add(1, Ordering::SeqCst) - answered.load(Ordering::SeqCst);
            assert!(ahead <= 8, "{ahead} were pulled ahead");
            (index, question("q"))
        });
        let count = |_, answer: Result<ChatAnswer, Fault>| {
            answered.fetch_add(1, Ordering::SeqCst);
            answer.map(drop).map_err(|fault| fault.into_error("lab"))
        };
        ask_many(&chat, requests, count, &|| false).await.unwrap();
        assert_eq!(answered.load(Ordering::SeqCst), 200);
    }

    #[tokio::test]
    async fn when_the_money_is_gone_it_ends_once_and_keeps_what_was_paid() {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let url = serve(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
            0..30 => Reply::chat("ok"),
            _ => Reply::error(429, "insufficient_quota", None),
        })
        .await;
        let chat = loopback::chat(&url, &["k"], |_| ());
        let (mut good, mut bad) = (0, 0);
        let requests = (0..100_000).map(|index| (index, question("q")));
        let error = ask_many(
            &chat,
            requests,
            |_, answer| {
                if answer.is_ok() {
                    good += 1
                } else {
                    bad += 1
                }
                Ok(())
            },
            &|| false,
        )
        .await
        .unwrap_err();
        assert_eq!((good, bad), (30, 0));
        assert!(
            error.to_string().contains("insufficient_quota") && error.to_string().contains("add credit"),
            "{error}"
        );
        assert!(count.load(Ordering::SeqCst) < 200, "{count:?} requests were sent without money");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_reported_once() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let chat = loopback::chat(&format!("http://{free}/v1"), &[], |_| ());
        let requests = (0..100_000).map(|index| (index, question("q")));
        let error = ask_many(&chat, requests, |_, _| panic!("no single fault"), &|| false).await.unwrap_err();
        assert!(error.message.contains("no connection"), "{error}");
    }

    #[tokio::test]
    async fn whoever_stops_is_obeyed_at_once() {
        let url = serve(|_| Reply::SayAfter(Duration::from_secs(60), 200, String::new())).await;
        let chat = loopback::chat(&url, &[], |_| ());
        let requests = (0..50).map(|index| (index, question("q")));
        let looks = AtomicUsize::new(0);
        let stop = || looks.fetch_add(1, Ordering::SeqCst) > 1;
        let error = ask_many(&chat, requests, |_, _| Ok(()), &stop).await.unwrap_err();
        assert_eq!(error.kind, Kind::Interrupted);
    }

    #[tokio::test]
    async fn a_limit_that_headers_tell_is_not_passed() {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let url = serve(move |_| {
            let left = 29usize.saturating_sub(seen.fetch_add(1, Ordering::SeqCst));
            Reply::chat("ok")
                .with("x-ratelimit-limit-requests", "30")
                .with("x-ratelimit-remaining-requests", &left.to_string())
                .with("x-ratelimit-reset-requests", "60s")
        })
        .await;
        let chat = loopback::chat(&url, &[], |_| ());
        // Learns the limit, then has room for no more than what is left of it.
        chat.ask(&question("q")).await.unwrap();
        let requests = (0..100).map(|index| (index, question("q")));
        let all = ask_many(&chat, requests, |_, _| Ok(()), &|| false);
        assert!(tokio::time::timeout(Duration::from_millis(400), all).await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 30);
        assert_eq!(chat.report()[0].requests_per_minute, Some(30.0));
    }
}
