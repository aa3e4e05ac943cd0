//! The metadata service of an ECS instance, which gives out the credentials of
//! the role that the instance has.

use http::header::{HeaderMap, HeaderValue};
use reqwest::Client;

use crate::store::credentials::asked::{Asked, asked, unreachable_service};
use crate::store::credentials::{Fetched, NoCredentials, said};

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const TOKEN: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";
const TOKEN_LIFE_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
/// It is used at once, and made anew the next time.
const TOKEN_LIFE_SECONDS: &str = "60";

/// The credentials of this role, or of whichever the instance has.
pub(super) async fn fetch(client: &Client, endpoint: &str, role: Option<&str>) -> Result<Fetched, NoCredentials> {
    let headers = token(client, endpoint).await?;
    let get = async |path: &str| {
        let sent = client.get(format!("{endpoint}{path}")).headers(headers.clone()).send().await;
        asked("the metadata service", sent).await
    };
    let role = match role {
        Some(role) => role.to_owned(),
        None => {
            let listed = get(ROLES).await?;
            let first = listed.text.lines().next().map(str::trim).filter(|name| !name.is_empty());
            let none = || NoCredentials::for_good("NoRole", "this instance has no RAM role: give it one");
            first.filter(|_| listed.status.is_success()).ok_or_else(none)?.to_owned()
        }
    };
    let Asked { status, text, now } = get(&format!("{ROLES}{role}")).await?;
    if status.as_u16() == 404 {
        return Err(NoCredentials::for_good("NoRole", format!("this instance does not have the RAM role {role:?}")));
    }
    if !status.is_success() {
        return Err(NoCredentials::for_now("Metadata", format!("the metadata service answered {status}")));
    }
    said::read(&text, now)
        .map_err(|why| NoCredentials::for_now("Metadata", format!("the metadata service's answer: {why}")))
}

/// Instances may be set to refuse who does not bring a token; those of old
/// know of none.
async fn token(client: &Client, endpoint: &str) -> Result<HeaderMap, NoCredentials> {
    let request = client.put(format!("{endpoint}{TOKEN}")).header(TOKEN_LIFE_HEADER, TOKEN_LIFE_SECONDS);
    let answer = request.send().await.map_err(|e| unreachable_service("the metadata service", e))?;
    if !answer.status().is_success() {
        return Ok(HeaderMap::new());
    }
    let text = answer.text().await.map_err(|e| unreachable_service("the metadata service", e))?;
    let mut headers = HeaderMap::new();
    if let Ok(mut value) = HeaderValue::from_str(text.trim()) {
        value.set_sensitive(true);
        headers.insert(TOKEN_HEADER, value);
    }
    Ok(headers)
}
