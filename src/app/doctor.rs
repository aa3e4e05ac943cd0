//! `chunkgate doctor`, and the same for a gateway that runs.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::store::open_store;
use super::{AppError, stop_signal};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Environment, Sources, Strictness};
use crate::doctor::{self, Finding, Inward, Outward, Report};
use crate::http::Doctor;
use crate::ledger::Ledger;
use crate::store::Store;
use crate::units::Secret;

/// How long an answer is held back and a body is drawn out, to see whether
/// anybody cuts them off: longer than a gateway lets anybody wait.
const HELD: Duration = Duration::from_secs(30);

/// How `chunkgate doctor` looks, and how it tells.
#[derive(Clone, Debug, Default)]
pub struct DoctorOptions {
    /// From outside, at this URL; none looks outward.
    pub url: Option<String>,
    /// The page that uploads.
    pub origin: Option<String>,
    /// The key to upload with.
    pub key: Option<Secret>,
    /// For programs.
    pub json: bool,
}

/// Looks, tells, and says whether nothing is wrong.
pub async fn doctor(options: DoctorOptions, sources: &Sources, strictness: Strictness) -> Result<bool, AppError> {
    let stop = stop_signal()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let is_folded = stdout().is_terminal();
    // https://no-color.org
    let is_coloured = is_folded && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = doctor::Style { is_coloured, is_folded };
    let json = options.json;
    // Whoever reads it may stop reading.
    let say = |text: &str| drop(stdout().write_all(text.as_bytes()));
    let tell = |finding: &Finding| {
        if !json {
            say(&doctor::finding_line(finding, style));
        }
    };
    let told_to_stop = async move { stop.cancelled().await };
    let report = match options.url {
        Some(url) => {
            let subject = Inward { url, origin: options.origin, key: options.key, held: HELD, clock };
            doctor::inward(&subject, &tell, told_to_stop).await
        }
        None => match config::load(sources, strictness) {
            Err(wrong) => doctor::outward::of_configuration(&wrong, &*clock, &tell),
            Ok(loaded) => {
                let store = open_store(&loaded.config, clock.clone()).map_err(|error| error.to_string());
                let subject = Outward {
                    config: loaded.config,
                    warnings: loaded.warnings,
                    environment: Environment::of_process(),
                    store,
                    ledger: None,
                    origin: options.origin,
                    clock,
                };
                doctor::outward(&subject, &tell, told_to_stop).await
            }
        },
    };
    say(&if json { pretty(&report)? } else { doctor::ending(&report, style) });
    Ok(report.is_well())
}

fn pretty(report: &Report) -> Result<String, AppError> {
    let text = serde_json::to_string_pretty(&report.to_json());
    text.map(|text| text + "\n").map_err(|error| AppError::Failed(error.to_string()))
}

/// What the admin listener asks: of the store and the ledger that this gateway
/// uses, without the breaker that would answer for the store.
/// A gateway that shuts down stops it.
pub(super) fn of_gateway(
    config: &Config,
    store: Arc<dyn Store>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
) -> Doctor {
    let config = config.clone();
    Doctor::new(Arc::new(move |origin| {
        let subject = Outward {
            config: config.clone(),
            warnings: Vec::new(),
            environment: Environment::of_process(),
            store: Ok(store.clone()),
            ledger: Some(ledger.clone()),
            origin,
            clock: clock.clone(),
        };
        let stop = draining.clone().cancelled_owned();
        async move { doctor::outward(&subject, &|_| {}, stop).await.to_json() }.boxed()
    }))
}
