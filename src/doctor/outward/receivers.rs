//! Those who are told and asked: webhooks, and the application's hooks. Each
//! gets one signed message that means nothing, and webhooks one more whose
//! signature is wrong.

use crate::clock::Clock;
use crate::config::Config;
use crate::doctor::course::Course;
use crate::doctor::report::Verdict;
use crate::domain::EventId;
use crate::notify::hook::Hook;
use crate::notify::{Attempt, Hooks, Notifier, WebhookConfig};
use crate::units::Secret;

/// Nobody's: what it signs must be refused.
const FORGER: &str = "whsec_Y2h1bmtnYXRlLWRvY3Rvci1mb3JnZXMtdGhpcy1vbmU=";
/// The one word on the line that a receiver writes to tell it.
const EVENT: &str = "doctor.ping";

/// Sends to each.
pub(super) async fn check(course: &mut Course<'_>, config: &Config, clock: &dyn Clock) {
    webhooks(course, &config.webhook, clock).await;
    let hooks = [
        ("callback before_create", Hook::BeforeCreate, "uploads cannot begin: clients get 503 hook_unavailable"),
        ("callback completed", Hook::Completed, "clients do not hear what the application says of their files"),
    ];
    match Hooks::new(&config.hooks, &config.webhook) {
        Err(wrong) => course.tell("callback", &["configuration"], misconfigured(wrong)),
        Ok(asked) => {
            for (check, hook, why) in hooks.into_iter().filter(|(_, hook, _)| asked.has(*hook)) {
                course.check(check, &["configuration"], ask(&asked, hook, why, clock)).await;
            }
        }
    }
}

async fn webhooks(course: &mut Course<'_>, config: &WebhookConfig, clock: &dyn Clock) {
    let (honest, forger) = match (Notifier::new(config), Notifier::new(&forged(config))) {
        (Ok(honest), Ok(forger)) => (honest, forger),
        (Err(wrong), _) | (_, Err(wrong)) => {
            course.tell("webhook", &["configuration"], misconfigured(wrong));
            return;
        }
    };
    if honest.subscriptions().is_empty() {
        course.tell("webhook", &["configuration"], Verdict::skipped("webhook.url is not set: nobody is told"));
    }
    for receiver in honest.subscriptions() {
        let url = receiver.url.as_str();
        let told = async {
            let first = send(&honest, url, clock).await;
            // Whoever takes nothing need not be tried with a forgery.
            let second = if first.error.is_none() { Some(send(&forger, url, clock).await) } else { None };
            judge(shown(url), &first, second.as_ref())
        };
        course.check("webhook", &["configuration"], told).await;
    }
}

/// The same receivers, with a secret of nobody's.
fn forged(config: &WebhookConfig) -> WebhookConfig {
    let mut forged = config.clone();
    forged.secret = Some(Secret::new(FORGER));
    forged.endpoints.iter_mut().for_each(|endpoint| endpoint.secret = None);
    forged
}

fn misconfigured(wrong: String) -> Verdict {
    Verdict::failed(wrong, "no gateway starts with it", "correct the setting")
}

async fn send(notifier: &Notifier, url: &str, clock: &dyn Clock) -> Attempt {
    let id = EventId::new(format!("doctor_{:032x}", clock.random()));
    let body = serde_json::json!({"type": EVENT, "timestamp": clock.now().rfc3339(), "data": {}}).to_string();
    notifier.attempt(url, &id, &body, clock.now()).await
}

/// Without what may be a secret in it.
pub(super) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

fn judge(url: &str, honest: &Attempt, forged: Option<&Attempt>) -> Verdict {
    if let Some(error) = &honest.error {
        let fix = match honest.status {
            Some(401 | 403) => "give it webhook.secret, and let it check webhook-signature against the body as it came",
            Some(300..=399) => "write the address that it redirects to",
            Some(404 | 405) => "correct the path in webhook.url: it must take POST",
            Some(_) => {
                "see the receiver's own log; it must answer 2xx within 15 s, also to events that it does not know"
            }
            None => "correct webhook.url, start the receiver, or let this machine out to it",
        };
        return Verdict::failed(
            format!("{url}: {error}"),
            "the application does not hear that files are there; events are tried again for 3 days",
            fix,
        );
    }
    let took_forgery = forged.is_some_and(|forged| forged.error.is_none());
    if took_forgery {
        return Verdict::warning(
            format!("{url} takes events, also with a wrong signature"),
            "anybody who knows the URL can make the application believe in files that are not there",
            "check webhook-signature (Standard Webhooks) before anything else, and answer 401 when it is wrong",
        );
    }
    Verdict::ok(format!("{url} takes events, and refuses what is wrongly signed"))
}

async fn ask(hooks: &Hooks, hook: Hook, why: &'static str, clock: &dyn Clock) -> Verdict {
    let id = format!("doctor_{:032x}", clock.random());
    let body = serde_json::json!({"hook": EVENT}).to_string();
    match hooks.ask(hook, &id, clock.now(), &body).await {
        None => Verdict::skipped("nobody is asked"),
        // A question that it does not know it may refuse.
        Some(Ok(_)) => Verdict::ok(format!("the application answers {}", hook.name())),
        Some(Err(error)) => Verdict::failed(
            format!("hooks.{}.url: {error}", hook.name()),
            why,
            format!("correct hooks.{}.url, start the application, or let this machine out to it", hook.name()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn a_receiver_is_judged_by_what_it_takes_and_what_it_refuses() {
        let answered = |status: u16| Attempt {
            status: Some(status),
            error: (status != 204).then(|| format!("it answered {status}")),
        };
        let of = |honest: u16, forged: Option<u16>| judge("u", &answered(honest), forged.map(answered).as_ref());
        assert_eq!(of(204, Some(401)).status, Status::Ok);
        assert!(of(204, Some(204)).status == Status::Warning);
        for (status, fix) in [(500, "own log"), (401, "webhook.secret"), (404, "path"), (307, "redirects")] {
            let verdict = of(status, None);
            assert!(verdict.status == Status::Failed && verdict.fix.contains(fix), "{verdict:?}");
        }
        assert_eq!(shown("https://a.example/hook?token=secret"), "https://a.example/hook");
    }
}
