//! Who signs S3's requests, and as whom: with whatever credentials are good now.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use http::header::{HOST, HeaderValue, InvalidHeaderValue};

use crate::domain::Timestamp;
use crate::store::StoreError;
use crate::store::credentials::{Credentials, Keeper};
use crate::store::error::Fault;
use crate::store::remote::client::{Identity, Sign};
use crate::store::remote::endpoint::Endpoint;
use crate::store::remote::request::Call;
use crate::store::s3::remedy::{self, remedy};
use crate::store::s3::sign::{self, Request, Signer};
use crate::units::Secret;

/// Who we are to S3.
#[derive(Clone, Debug)]
pub struct S3Identity {
    /// The region that is signed for.
    pub region: Arc<str>,
    /// Who we are.
    pub keeper: Keeper,
}

/// Somebody who signs with certain credentials.
pub struct Signing {
    identity: S3Identity,
    credentials: Arc<Credentials>,
}

impl S3Identity {
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
            session_token: self.credentials.security_token.as_ref().map(Secret::expose),
            region: &self.identity.region,
            service: sign::S3,
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
        headers.insert(HOST, HeaderValue::from_str(&endpoint.host())?);
        let request = Request { method: call.method.as_str(), path: &endpoint.path(call.key), query: &call.query };
        sign::sign(&self.signer(), at, &request, headers)
    }

    async fn is_replaced(&self, code: &str) -> bool {
        remedy::is_of_credentials(code) && self.identity.keeper.refused(&self.credentials).await
    }
}

#[async_trait]
impl Identity for S3Identity {
    async fn signer(&self, operation: &'static str) -> Result<Arc<dyn Sign>, StoreError> {
        Ok(Arc::new(self.now(operation).await?))
    }

    fn explain(&self, fault: &mut Fault, _: &Endpoint) {
        if fault.remedy.is_none() {
            fault.remedy = remedy(&fault.code).map(Into::into);
        }
    }
}
