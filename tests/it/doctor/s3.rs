//! Set-ups on S3 that are sound, and that are broken: on servers that nobody here wrote.

use super::patient::{Examined, Patient};
use crate::s3::servers::Server;

const RIGHTS: [(&str, &str); 6] = [
    ("s3:PutObject", "put"),
    ("s3:GetObject", "get"),
    ("s3:ListMultipartUploadParts", "list parts"),
    ("s3:AbortMultipartUpload", "abort"),
    ("s3:ListBucketMultipartUploads", "list"),
    ("s3:DeleteObject", "delete"),
];

fn patient(server: &Server) -> Patient {
    Patient::new(server.environment().into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

async fn examine(patient: Patient) -> Examined {
    let folder = tempfile::tempdir().expect("a folder");
    patient.examine(folder.path()).await
}

async fn is_sound(server: &Server) -> Examined {
    let examined = examine(patient(server)).await;
    examined.is_well();
    for check in ["dns", "tcp", "clock", "credentials", "bucket", "throughput"] {
        examined.has("ok", check);
    }
    for right in ["put", "get", "begin", "put part", "list parts", "complete", "abort", "list", "delete"] {
        examined.has("ok", &format!("permission to {right}"));
    }
    let credentials = examined.finding("ok", "credentials");
    assert!(credentials.contains("ak from store.s3.access_key_id (static), permanent"), "{credentials}");
    // Nobody is told of forms, and nobody is asked about a page.
    assert!(!examined.said.contains("callback oss"), "{}", examined.said);
    examined.has("skipped", "cors");
    examined
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_examined_as_far_as_it_goes() {
    let server = Server::versitygw().await;
    // What the server does not have is said, and is nobody's fault.
    let examined = is_sound(&server).await;
    assert!(examined.finding("skipped", "lifecycle").contains("NotImplemented"), "{}", examined.said);
    let server = Server::moto().await;
    is_sound(&server).await.has("warning", "lifecycle");
    for (days, status) in [(8, "ok"), (1, "warning")] {
        let rule = format!(
            "<LifecycleConfiguration><Rule><ID>parts</ID><Filter><Prefix>uploads/</Prefix></Filter><Status>Enabled</Status>\
             <AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
        );
        let put = crate::harness::client().put(format!("{}/bkt?lifecycle", server.endpoint)).body(rule);
        let put = put.send().await.expect("an answer");
        assert!(put.status().is_success(), "{put:?}");
        is_sound(&server).await.has(status, "lifecycle");
    }
    let in_environment = [("AWS_ACCESS_KEY_ID", "ak"), ("AWS_SECRET_ACCESS_KEY", "sk"), ("AWS_SESSION_TOKEN", "t")];
    let in_environment = in_environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = server.environment().into_iter().filter(|(key, _)| !key.contains("ACCESS_KEY"));
    let patient = Patient::new(settings.map(|(key, value)| (key.to_owned(), value)).collect());
    let examined = examine(patient.beside(in_environment)).await;
    let credentials = examined.finding("ok", "credentials");
    assert!(credentials.contains("ak from AWS_ACCESS_KEY_ID (environment), temporary"), "{credentials}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_secret_bucket_and_region_of_s3() {
    let server = Server::versitygw().await;
    let wrong = examine(patient(&server).with("STORE__S3__ACCESS_KEY_ID", "AKIAWRONGWRONG")).await;
    wrong.first_fails_at("credentials", "S3: a wrong key");
    let wrong = examine(patient(&server).with("STORE__S3__ACCESS_KEY_SECRET", "hunter2")).await;
    wrong.first_fails_at("credentials", "S3: a wrong secret").has("skipped", "permission to put");
    assert!(!wrong.said.contains("hunter2"), "{}", wrong.said);
    let wrong = examine(patient(&server).with("STORE__S3__SESSION_TOKEN", "hunter2")).await;
    wrong.first_fails_at("credentials", "S3: a token that is not the key's");
    assert!(!wrong.said.contains("hunter2"), "{}", wrong.said);
    let wrong = examine(patient(&server).with("STORE__S3__REGION", "eu-west-1")).await;
    wrong.first_fails_at("bucket", "S3: a wrong region").has("ok", "credentials");
    let wrong = examine(patient(&server).with("STORE__S3__BUCKET", "elsewhere")).await;
    wrong.first_fails_at("bucket", "S3: a bucket that is not there").has("ok", "credentials");
    let moto = Server::moto().await;
    let wrong = examine(patient(&moto).with("STORE__S3__BUCKET", "elsewhere")).await;
    wrong.is_ill_at("bucket").has("ok", "credentials");
    // Once it asks for keys, moto knows them, too.
    let (id, _) = moto.somebody_without("s3:None").await;
    let wrong = examine(patient(&moto)).await;
    wrong.is_ill_at("credentials");
    let wrong = examine(patient(&moto).with("STORE__S3__ACCESS_KEY_ID", id)).await;
    wrong.is_ill_at("credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_permission_that_is_missing_on_s3_is_named() {
    for server in [Server::versitygw_with_users().await, Server::moto().await] {
        for (action, right) in RIGHTS {
            let (id, secret) = server.somebody_without(action).await;
            let patient = patient(&server);
            let patient = patient.with("STORE__S3__ACCESS_KEY_ID", id).with("STORE__S3__ACCESS_KEY_SECRET", secret);
            let examined = examine(patient).await;
            let check = format!("permission to {right}");
            if server.name == "versitygw" && action == "s3:AbortMultipartUpload" {
                examined.first_fails_at(&check, "S3: no permission to abort");
            }
            examined.is_ill_at(&check).has("ok", "credentials").has("ok", "bucket");
            let cause = examined.finding("FAILED", &check);
            assert!(cause.contains(&format!("\"Action\":[\"{action}\"]")), "{cause}");
            assert!(cause.contains("\"Resource\":[\"arn:aws:s3:::bkt"), "{cause}");
        }
    }
}
