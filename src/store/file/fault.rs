//! What an error of the file system means to the caller of a store.

use std::io;

use rustix::io::Errno;
use tokio::task::JoinError;

use crate::store::StoreError;
use crate::store::error::Fault;

/// Names and classes of errors. What is not listed is worth trying again.
const NAMES: &[(Errno, &str)] = &[
    (Errno::IO, "EIO"),
    (Errno::ROFS, "EROFS"),
    (Errno::MFILE, "EMFILE"),
    (Errno::NFILE, "ENFILE"),
    (Errno::NOENT, "ENOENT"),
    (Errno::STALE, "ESTALE"),
    (Errno::ACCESS, "EACCES"),
    (Errno::PERM, "EPERM"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::LOOP, "ELOOP"),
    (Errno::FBIG, "EFBIG"),
];

/// No attempt will ever succeed with these: permissions and impossible names.
const FOR_GOOD: &[Errno] =
    &[Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::ISDIR, Errno::NAMETOOLONG, Errno::LOOP, Errno::FBIG];

/// A failed call, where `what` is the kind of thing it failed on ("the
/// upload's data") and never a path of this machine.
pub(super) fn failed(operation: &'static str, what: &str, error: &io::Error) -> StoreError {
    let errno = Errno::from_io_error(error);
    if errno.is_some_and(|errno| errno == Errno::NOSPC || errno == Errno::DQUOT) {
        return StoreError::Full;
    }
    let named = NAMES.iter().find(|(listed, _)| Some(*listed) == errno);
    let fault = Fault {
        operation,
        code: named.map_or("IoError", |(_, name)| name).to_owned(),
        message: format!("{what}: {error}"),
        ..Fault::default()
    };
    if errno.is_some_and(|errno| FOR_GOOD.contains(&errno)) {
        StoreError::Refused(fault)
    } else {
        StoreError::Unavailable(fault)
    }
}

/// For `map_err`.
pub(super) fn on<E: Into<io::Error>>(operation: &'static str, what: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| failed(operation, what, &error.into())
}

/// For `map_err` where what is not there means that the upload is not.
pub(super) fn on_upload(operation: &'static str, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| {
        if error.kind() == io::ErrorKind::NotFound { StoreError::NoSuchUpload } else { failed(operation, what, &error) }
    }
}

/// Something of ours stands in the way for a moment.
pub(super) fn busy(operation: &'static str, code: &str, message: &str) -> StoreError {
    StoreError::Unavailable(Fault { operation, code: code.to_owned(), message: message.to_owned(), ..Fault::default() })
}

/// A request that this store will never take.
pub(super) fn refused(operation: &'static str, code: &str, message: String) -> StoreError {
    StoreError::Refused(Fault { operation, code: code.to_owned(), message, ..Fault::default() })
}

/// The blocking work itself was lost: it panicked, or the runtime is going down.
pub(super) fn lost(operation: &'static str, error: &JoinError) -> StoreError {
    let code = if error.is_panic() { "Panicked" } else { "ShuttingDown" };
    busy(operation, code, "the file store's worker did not finish")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_the_caller_can_do() {
        let of = |errno: Errno| failed("UploadPart", "the upload's data", &errno.into());
        assert!(matches!(of(Errno::NOSPC), StoreError::Full));
        assert!(matches!(of(Errno::DQUOT), StoreError::Full));
        assert!(matches!(of(Errno::ACCESS), StoreError::Refused(_)));
        let StoreError::Unavailable(fault) = of(Errno::IO) else { panic!("EIO may pass") };
        assert_eq!(fault.code, "EIO");
        assert!(fault.message.starts_with("the upload's data: "), "{fault}");
    }
}
