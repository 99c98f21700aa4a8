//! Connections: accepted one by one, so that one can be closed or reset without an answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use super::route;
use super::state::State;

/// How a connection ends instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// Closed in good order, with FIN.
    Close,
    /// Torn down, with RST.
    Reset,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{self:?}")
    }
}

impl std::error::Error for Ending {}

/// Serves connections for ever.
pub async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, state.clone()));
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    _ = stream.set_nodelay(true);
    let resets = Arc::new(AtomicBool::new(false));
    let flag = resets.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, flag) = (state.clone(), flag.clone());
        Box::pin(async move {
            let answer = route::answer(&state, request.map(Body::new)).await;
            answer.inspect_err(|ending| flag.store(*ending == Ending::Reset, Ordering::Relaxed))
        })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error of the service ends the connection before a byte of an answer.
    _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let stream = connection.into_parts().io.into_inner();
    if resets.load(Ordering::Relaxed) {
        // What is closed with no time to linger is reset.
        _ = stream.set_zero_linger();
    }
}

/// A body that promises more than it holds.
struct Truncated {
    length: u64,
    part: Option<Bytes>,
    pause: Pin<Box<Sleep>>,
}

/// The first half of a body under the length of the whole.
pub fn truncate(whole: &Bytes) -> Body {
    Body::new(Truncated {
        length: whole.len() as u64,
        part: Some(whole.slice(..whole.len() / 2)),
        pause: Box::pin(tokio::time::sleep(Duration::from_millis(5))),
    })
}

impl hyper::body::Body for Truncated {
    type Data = Bytes;
    type Error = Ending;
    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ending>>> {
        if let Some(part) = self.part.take() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        // The pause makes hyper send what it has before the end comes.
        self.pause.as_mut().poll(context).map(|()| Some(Err(Ending::Close)))
    }
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// What `route` makes of a request.
pub type Answered = Result<Response<Body>, Ending>;
