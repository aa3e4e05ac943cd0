//! Who signs S3's requests: as configured, until that changes.

use std::sync::Arc;

use async_trait::async_trait;

use crate::rotating::Rotating;
use crate::store::StoreError;
use crate::store::error::Fault;
use crate::store::remote::client::{self, Sign};
use crate::store::remote::endpoint::Endpoint;
use crate::store::s3::remedy;
use crate::store::s3::setup::Identity;

/// Who we are to S3. Clones are the same.
#[derive(Clone, Debug)]
pub struct S3Identity(Arc<Rotating<Identity>>);

impl S3Identity {
    /// To begin with, this.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(Rotating::new(identity)))
    }

    /// Whoever signs now.
    pub fn now(&self) -> Arc<Identity> {
        self.0.get()
    }

    /// From now on, this.
    pub fn replace(&self, identity: Identity) {
        self.0.set(identity);
    }
}

#[async_trait]
impl client::Identity for S3Identity {
    async fn signer(&self, _: &'static str) -> Result<Arc<dyn Sign>, StoreError> {
        Ok(self.now())
    }

    fn explain(&self, fault: &mut Fault, _: &Endpoint) {
        if fault.remedy.is_none() {
            fault.remedy = remedy(&fault.code).map(Into::into);
        }
    }
}
