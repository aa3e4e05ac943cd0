//! Who signs OSS's requests, and as whom: with whatever credentials are good now.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use http::header::InvalidHeaderValue;

use crate::domain::Timestamp;
use crate::store::StoreError;
use crate::store::credentials::{Credentials, Keeper};
use crate::store::error::Fault;
use crate::store::oss::sign::{self, Request, Signer};
use crate::store::oss::{SignatureVersion, codes, endpoint};
use crate::store::remote::client::{Identity, Sign};
use crate::store::remote::endpoint::Endpoint;
use crate::store::remote::request::Call;
use crate::units::Secret;

/// Who we are to OSS.
#[derive(Clone, Debug)]
pub struct OssIdentity {
    /// The signature.
    pub version: SignatureVersion,
    /// The region that V4 signs for; empty with V1, which names none.
    pub region: Arc<str>,
    /// Who we are.
    pub keeper: Keeper,
}

/// Somebody who signs with certain credentials.
pub struct Signing {
    identity: OssIdentity,
    credentials: Arc<Credentials>,
}

impl OssIdentity {
    /// Whoever signs now.
    pub async fn now(&self, operation: &'static str) -> Result<Signing, StoreError> {
        let credentials = self.keeper.get().await.map_err(|none| none.of_call(operation))?;
        Ok(Signing { identity: self.clone(), credentials })
    }
}

impl Signing {
    /// As the signatures take it.
    pub fn signer(&self) -> Signer<'_> {
        Signer {
            access_key_id: &self.credentials.access_key_id,
            access_key_secret: self.credentials.access_key_secret.expose(),
            security_token: self.credentials.security_token.as_ref().map(Secret::expose),
            region: &self.identity.region,
        }
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signing({:?})", self.identity)
    }
}

#[async_trait]
impl Sign for Signing {
    fn sign(
        &self,
        at: Timestamp,
        endpoint: &Endpoint,
        call: &Call<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), InvalidHeaderValue> {
        let (method, bucket) = (call.method.as_str(), Some(endpoint.bucket.as_str()));
        let request = Request { method, bucket, key: call.key, query: &call.query };
        sign::sign(self.identity.version, &self.signer(), at, &request, headers)
    }

    async fn is_replaced(&self, code: &str) -> bool {
        codes::is_of_credentials(code) && self.identity.keeper.refused(&self.credentials).await
    }
}

#[async_trait]
impl Identity for OssIdentity {
    async fn signer(&self, operation: &'static str) -> Result<Arc<dyn Sign>, StoreError> {
        Ok(Arc::new(self.now(operation).await?))
    }

    fn explain(&self, fault: &mut Fault, endpoint: &Endpoint) {
        let is_connect = matches!(fault.code.as_str(), "ConnectTimeout" | "ConnectFailed");
        if is_connect && endpoint::is_internal(endpoint) {
            let public = endpoint.authority.replacen("-internal", "", 1);
            let advice = format!(
                "this is an internal endpoint, which only machines in the bucket's region of Aliyun reach: elsewhere, \
                 set store.oss.endpoint = {public:?}"
            );
            fault.remedy = Some(advice.into());
        }
        if fault.remedy.is_none() {
            fault.remedy = codes::remedy(&fault.code).map(Into::into);
        }
    }
}
