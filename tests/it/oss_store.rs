//! Our own OSS client against the emulator: the suite that every store passes.

use std::sync::Arc;

use chunkgate::clock::SystemClock;
use chunkgate::store::oss::{OssConfig, OssStore, SignatureVersion};
use chunkgate::store::{StoreConfig, conformance};
use chunkgate::units::Secret;

use crate::emulator::RunningEmulator;

#[tokio::test(flavor = "multi_thread")]
async fn the_oss_store_with_v1_signatures_conforms() {
    conforms(SignatureVersion::V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oss_store_with_v4_signatures_conforms() {
    conforms(SignatureVersion::V4).await;
}

async fn conforms(signature: SignatureVersion) {
    let running = RunningEmulator::start().await;
    let oss = OssConfig {
        endpoint: Some(running.endpoint()),
        bucket: Some("bkt".to_owned()),
        region: Some("cn-hangzhou".to_owned()),
        access_key_id: Some("ak".to_owned()),
        access_key_secret: Some(Secret::new("sk")),
        signature,
        path_style: true,
        ..OssConfig::default()
    };
    let config = StoreConfig { oss, ..StoreConfig::default() };
    let store = OssStore::new(&config, Arc::new(SystemClock::new()), &|_| None).expect("is configured");
    conformance::run(Arc::new(store), "suite").await;
    assert_eq!(running.emulator.open_uploads(), (0, 0), "the suite leaves nothing behind");
    running.stop().await;
}
