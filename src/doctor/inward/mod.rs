//! The way from a browser to a gateway: through the CDN, the ingress and the
//! balancer that stand between, each of which can refuse, hold back, cut off and
//! leave out.

mod access;
mod body_limit;
mod cors;
mod early;
mod headers;
mod parallel;
mod site;
mod timeouts;
mod upload;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::doctor::course::{Course, Listener};
use crate::doctor::net;
use crate::doctor::report::{Report, Verdict};
use crate::units::Secret;
use site::Site;

const CONNECT: Duration = Duration::from_secs(10);

/// What is examined.
#[derive(Debug)]
pub struct Inward {
    /// As browsers reach it.
    pub url: String,
    /// The page that uploads: `https://app.example.com`.
    pub origin: Option<String>,
    /// An API key, or an access token that may upload.
    pub key: Option<Secret>,
    /// How long an answer is waited for, and a body takes, on purpose.
    pub held: Duration,
    /// Time and lots.
    pub clock: Arc<dyn Clock>,
}

/// Goes the way to its end. What is uploaded is given up again.
pub async fn inward(subject: &Inward, listener: Listener<'_>, stop: impl Future<Output = ()>) -> Report {
    let clock = &*subject.clock;
    let mut course = Course::new(clock, listener);
    let site = match Site::new(subject) {
        Ok(site) => site,
        Err(wrong) => {
            let fix = "write a URL such as https://upload.example.com";
            course.tell("url", &[], Verdict::failed(wrong, "there is nowhere to go", fix));
            return course.end();
        }
    };
    tokio::select! {
        () = Box::pin(go(subject, &site, &mut course)) => {}
        () = stop => course.tell("interrupted", &[], Verdict::skipped("it was told to stop")),
    }
    // What it began is given up, whatever happened.
    upload::clean(&site).await;
    course.end()
}

async fn go(subject: &Inward, site: &Site, course: &mut Course<'_>) {
    let clock = &*subject.clock;
    let open = net::walk(course, &site.place, clock, CONNECT).await;
    let way = open.and_then(|open| open.first().copied());
    course.check("gateway", &["tcp", "tls"], access::gateway(site)).await;
    let sample = course.learn("access", &["gateway"], access::check(site)).await;
    match &sample {
        Some(sample) => course.tell("headers", &["access"], headers::judge(sample)),
        None => course.tell("headers", &["access"], Verdict::skipped("there is no answer to look at")),
    }
    course.check("cors", &["gateway"], cors::check(site, subject.origin.as_deref())).await;
    let wire = wire::Wire { site, way };
    course.check("body limit", &["gateway"], body_limit::check(&wire, clock)).await;
    course.check("buffering", &["gateway"], early::buffering(&wire)).await;
    course.check("early refusals", &["gateway"], early::refusals(&wire)).await;
    course.check("upload", &["access"], upload::check(site)).await;
    course.check("time-outs", &["access", "upload"], timeouts::check(&wire, subject.held, clock)).await;
    course.check("parallel connections", &["access"], parallel::check(site, clock)).await;
}
