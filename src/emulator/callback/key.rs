//! The key that callbacks are signed with. OSS has one of its own, whose
//! public half is on the web; the emulator makes one and serves the same.

use std::path::PathBuf;
use std::sync::Arc;

use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::rand_core::{self, CryptoRng, RngCore};
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::emulator::body::blocking;
use crate::emulator::error::OssError;

/// OSS's has 512.
const KEY_BITS: usize = 1024;

/// Made when it is first needed, and kept beside the bucket.
#[derive(Debug)]
pub(crate) struct CallbackKey {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    key: OnceCell<Arc<RsaPrivateKey>>,
}

impl CallbackKey {
    pub(crate) fn new(path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { path, clock, key: OnceCell::new() }
    }

    /// The secret half.
    pub(crate) async fn get(&self) -> Result<Arc<RsaPrivateKey>, OssError> {
        let made = self.key.get_or_try_init(|| async {
            let (path, clock) = (self.path.clone(), Arc::clone(&self.clock));
            let made = blocking(move || read_or_make(&path, &*clock)).await?;
            made.map(Arc::new).map_err(|error| OssError::internal(&error))
        });
        made.await.map(Arc::clone)
    }

    /// The public half, as `-----BEGIN PUBLIC KEY-----`.
    pub(crate) async fn public(&self) -> Result<String, OssError> {
        let key = self.get().await?;
        key.to_public_key().to_public_key_pem(LineEnding::LF).map_err(|error| OssError::internal(&error))
    }
}

fn read_or_make(path: &std::path::Path, clock: &dyn Clock) -> std::io::Result<RsaPrivateKey> {
    match std::fs::read_to_string(path) {
        Ok(pem) => RsaPrivateKey::from_pkcs8_pem(&pem).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = RsaPrivateKey::new(&mut Lots(clock), KEY_BITS).map_err(std::io::Error::other)?;
            let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(std::io::Error::other)?;
            std::fs::write(path, pem.as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// The clock's randomness, as the key maker asks for it.
struct Lots<'c>(&'c dyn Clock);

impl RngCore for Lots<'_> {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(16) {
            piece.copy_from_slice(&self.0.random().to_be_bytes()[..piece.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Lots<'_> {}
