//! How OSS signs its upload callback: RSA with MD5 (PKCS #1 v1.5) over path,
//! query and body. Its own key has 512 bits, so a signature is no proof of
//! anything: what a callback says is to be confirmed with HEAD.

use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use rsa::traits::SignatureScheme as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};

/// Where the signature is, in base64.
pub const SIGNATURE_HEADER: &str = "authorization";
/// Where the URL of the public key is, in base64.
pub const KEY_URL_HEADER: &str = "x-oss-pub-key-url";

/// Where OSS's own public key is.
pub const KEY_URL: &str = "https://gosspublic.alicdn.com/callback_pub_key_v1.pem";

/// `DigestInfo` of an MD5 (RFC 8017 §9.2, note 1), without the digest.
const MD5_INFO: [u8; 18] =
    [0x30, 0x20, 0x30, 0x0C, 0x06, 0x08, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x02, 0x05, 0x05, 0x00, 0x04, 0x10];

fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(16), prefix: Box::new(MD5_INFO) }
}

/// The digest of what is signed: the path, decoded, the query as it stands,
/// a line break, and the body.
fn digest(path_and_query: &str, body: &[u8]) -> [u8; 16] {
    let (path, query) =
        path_and_query.split_once('?').map_or((path_and_query, None), |(path, query)| (path, Some(query)));
    let mut md5 = Md5::new();
    md5.update(&*percent_decode_str(path).collect::<Vec<u8>>());
    if let Some(query) = query {
        md5.update("?");
        md5.update(query);
    }
    md5.update("\n");
    md5.update(body);
    md5.finalize().into()
}

/// Whether a callback is signed with this key's secret half.
pub fn verify(key: &RsaPublicKey, signature: &[u8], path_and_query: &str, body: &[u8]) -> bool {
    scheme().verify(key, &digest(path_and_query, body), signature).is_ok()
}

/// The signature of a callback.
pub fn sign(key: &RsaPrivateKey, path_and_query: &str, body: &[u8]) -> Result<Vec<u8>, rsa::Error> {
    key.sign(scheme(), &digest(path_and_query, body))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rsa::pkcs8::DecodePublicKey as _;

    use super::*;

    #[test]
    fn oss_own_signature_is_understood() {
        // A genuine callback (reference: oss-protocol.md, "Upload callback").
        let der = STANDARD.decode(
            "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKs/JBGzwUB2aVht4crBx3oIPBLNsjGsC0fTXv+nvlmklvkcolvpvXLTjaxUHR3W9LXxQ2EHXAJf\
             CB+6H2YF1k8CAwEAAQ==",
        );
        let key = RsaPublicKey::from_public_key_der(&der.expect("base64")).expect("a key");
        let signature = "kKQeGTRccDKyHB3H9vF+xYMSrmhMZjzzl2/kdD1ktNVgbWEfYTQG0G2SU/RaHBovRCE8OkQDjC3uG33esH2txA==";
        let signature = STANDARD.decode(signature).expect("base64");
        let target = "/index.php?id=1&index=2";
        assert!(verify(&key, &signature, target, b"bucket=yonghu-test"));
        assert!(verify(&key, &signature, "/index%2Ephp?id=1&index=2", b"bucket=yonghu-test"));
        assert!(!verify(&key, &signature, target, b"bucket=yonghu-tesu"));
        assert!(!verify(&key, &signature, "/index.php?id=1&index=3", b"bucket=yonghu-test"));
        assert!(!verify(&key, &signature[1..], target, b"bucket=yonghu-test"));
    }
}
