use proptest::prelude::*;

use super::*;

const FORM: &str = "--B\r\nContent-Disposition: form-data; name=\"fileId\"\r\n\r\nabc\r\n\
    --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;\\\"b%22.bin\"\r\nContent-Type: x/y\r\n\r\n";
const CLOSING: &str = "\r\n--B--\r\n";
const PARTS_FOLLOW: Refusal = Refusal::FieldsAfterFile { bytes_max: 1 };

fn cut(bytes: &[u8], every: usize) -> Incoming {
    let frames: Vec<_> = bytes.chunks(every.max(1)).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    Box::pin(futures_util::stream::iter(frames))
}

/// The most that the file can be, and what comes of it, of a whole form.
async fn file_of(whole: &[u8], every: usize) -> (Option<u64>, Result<Vec<u8>, Interrupted>) {
    let mut form = Form::new(cut(whole, every), "B", Some(whole.len() as u64));
    let head = form.next_part().await.expect("a part").expect("a head");
    assert_eq!(head.name, "fileId");
    let mut text = Vec::new();
    while let Some(piece) = form.piece().await.expect("a piece") {
        text.extend_from_slice(&piece);
    }
    assert_eq!(text, b"abc");
    let head = form.next_part().await.expect("a part").expect("a head");
    assert_eq!(head.file_name.as_deref(), Some("a;\"b\".bin"));
    assert_eq!(head.content_type.as_deref(), Some("x/y"));
    let most = form.bytes_at_most();
    let mut part = form.into_last_part(PARTS_FOLLOW);
    let mut bytes = Vec::new();
    while let Some(frame) = part.next().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame),
            Err(why) => return (most, Err(why)),
        }
    }
    (most, Ok(bytes))
}

fn form_with(before: &str, content: &[u8], closing: &str) -> Vec<u8> {
    [before.as_bytes(), FORM.as_bytes(), content, closing.as_bytes()].concat()
}

#[test]
fn boundaries_are_found() {
    assert_eq!(boundary("multipart/form-data; boundary=----X").as_deref(), Ok("----X"));
    assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"").as_deref(), Ok("a b"));
    for wrong in ["", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=x"] {
        assert!(boundary(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_form_that_breaks_off_says_so() {
    for end in [10, FORM.len() - 3, FORM.len() + 3] {
        let whole = [FORM.as_bytes(), b"content"].concat();
        let mut form = Form::new(cut(&whole[..end], 7), "B", None);
        let mut broken = false;
        while let Ok(Some(_)) = form.next_part().await {
            while !broken {
                match form.piece().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => broken = true,
                }
            }
            if broken {
                break;
            }
        }
        assert!(broken || form.next_part().await.is_err(), "{end}");
    }
    for closing in ["\r\n--B", "\r\n--B-", "\r\n--B ", "\r\n--B\r", "\r\n--BX", "\r\n--B-X"] {
        for every in [1, 1000] {
            let (_, file) = file_of(&form_with("", b"content", closing), every).await;
            assert!(matches!(file, Err(Interrupted::Malformed(_))), "{closing:?}: {file:?}");
        }
    }
}

/// RFC 2046 §5.1.1: a preamble, an epilogue and the last line break are all
/// optional, and mean nothing.
#[tokio::test]
async fn what_stands_around_a_form_means_nothing() {
    let epilogue = format!("\r\n--B--{}", "x".repeat(1000));
    for before in ["", "\r\n", "preamble\r\n", "\r\n\r\n--\r\n"] {
        for closing in ["\r\n--B--", "\r\n--B--\r\n", "\r\n--B--\r\n\r\n", "\r\n--B-- \r\n--B\r\n", &epilogue] {
            for every in [1, 3, 10_000] {
                let (most, file) = file_of(&form_with(before, b"content", closing), every).await;
                assert_eq!(file.as_deref(), Ok(&b"content"[..]), "{before:?} {closing:?} {every}");
                assert_eq!(most, Some(7 + closing.len() as u64 - 7), "{before:?} {closing:?}");
            }
        }
    }
    let (_, file) = file_of(&form_with("", b"content", &format!("\r\n--B--{}", "x".repeat(1025))), 100).await;
    assert!(matches!(file, Err(Interrupted::Malformed(_))), "{file:?}");
    for before in ["x", "\n", &format!("{}\r\n", "x".repeat(1025))] {
        let mut form = Form::new(cut(&form_with(before, b"", CLOSING), 100), "C", None);
        assert!(matches!(form.next_part().await, Err(Interrupted::Malformed(_))), "{before:?}");
    }
}

/// What is refused is refused however the network cuts it, and for one reason.
#[tokio::test]
async fn a_form_is_the_same_in_pieces_of_any_size() {
    let blanks =
        |count: usize| format!("--B{}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n", " ".repeat(count));
    for (whole, name) in [(blanks(1024), Some("a")), (blanks(1025), None), ("--B\r\n\r\nx\r\n\r\n".to_owned(), None)] {
        let at_once = Form::new(cut(whole.as_bytes(), 10_000), "B", None).next_part().await;
        assert_eq!(at_once.as_ref().ok().and_then(|part| part.as_ref().map(|head| head.name.as_str())), name);
        for every in [1, 7, 1000] {
            assert_eq!(Form::new(cut(whole.as_bytes(), every), "B", None).next_part().await, at_once, "{every}");
        }
    }
}

/// Whoever puts fields after the file believes that they are heeded.
#[tokio::test]
async fn nothing_follows_a_last_part() {
    let text = "\r\n--B\r\nContent-Disposition: form-data; name=\"checksum\"\r\n\r\nmd5:00\r\n--B--\r\n";
    for every in [1, 7, 10_000] {
        let (_, file) = file_of(&form_with("", b"content", text), every).await;
        assert_eq!(file, Err(Interrupted::Malformed(PARTS_FOLLOW)), "{every}");
    }
}

#[tokio::test]
async fn heads_have_their_bounds() {
    let head = |bytes: usize| format!("--B\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\nx", "n".repeat(bytes));
    for every in [1, 100_000] {
        let whole = head(16_000);
        let part = Form::new(cut(whole.as_bytes(), every), "B", None).next_part().await;
        assert_eq!(part.ok().flatten().map(|head| head.name.len()), Some(16_000));
        let whole = head(17_000);
        let part = Form::new(cut(whole.as_bytes(), every), "B", None).next_part().await;
        assert!(matches!(part, Err(Interrupted::Malformed(_))), "{part:?}");
    }
}

/// Of a large frame only a little is copied to what is left of the one before.
#[tokio::test]
async fn large_frames_pass_whole() {
    let content: Vec<u8> = (0..100_000u32).map(|n| b"\r\n-X"[n as usize % 4]).collect();
    let whole = form_with("", &content, CLOSING);
    for every in (1..150).chain([JOINED_BYTES, JOINED_BYTES + 1, 2 * JOINED_BYTES, 30_011]) {
        let (most, bytes) = file_of(&whole, every).await;
        assert_eq!(most, Some(content.len() as u64 + 2), "{every}");
        assert!(bytes.as_ref() == Ok(&content), "{every}");
    }
}

proptest! {
    /// However the network cuts it and whatever the file looks like, the
    /// file comes out whole and its length is known beforehand.
    #[test]
    fn files_pass_whole(content in prop::collection::vec(prop::sample::select(b"\r\n-BX".to_vec()), 0..200), every in 1usize..40) {
        prop_assume!(memmem::find(&content, b"\r\n--B").is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (most, bytes) = runtime.block_on(file_of(&form_with("", &content, CLOSING), every));
        prop_assert_eq!(most, Some(content.len() as u64 + 2));
        prop_assert_eq!(bytes, Ok(content));
    }
}
