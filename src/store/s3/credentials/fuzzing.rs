//! What holds of whatever a token service answers.

use super::sts;
use crate::domain::Timestamp;

pub(crate) fn sessions(data: &[u8]) {
    let (text, now) = (String::from_utf8_lossy(data), Timestamp::from_millis(1_795_165_868_000));
    for action in ["AssumeRole", "AssumeRoleWithWebIdentity"] {
        let Ok(fetched) = sts::read(action, &text, now) else { continue };
        assert!(!fetched.credentials.access_key_id.is_empty() && fetched.life.is_some_and(|life| !life.is_zero()));
        assert_eq!(sts::refusal(&text), (String::new(), String::new()), "no answer is a refusal, too");
    }
}
