use super::room::TEXTS_BYTES_MAX;
use super::*;

const HEAD: &str = "--B\r\nContent-Disposition: form-data; name=";

async fn read_form(buffers: &FormBuffers, whole: String) -> Result<FileForm, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "multipart/form-data; boundary=B".parse().expect("a value"));
    headers.insert(header::CONTENT_LENGTH, whole.len().into());
    read(&headers, Body::from(whole), Duration::from_secs(5), buffers, |_| Way::Stream).await
}

fn with_text(bytes: usize) -> String {
    format!("{HEAD}\"t\"\r\n\r\n{}\r\n{HEAD}\"file\"\r\n\r\nabc\r\n--B--\r\n", "t".repeat(bytes))
}

#[tokio::test(start_paused = true)]
async fn much_text_waits_for_room() {
    let buffers = FormBuffers::new(1 << 20, Duration::from_secs(1));
    let mut forms = Vec::new();
    for _ in 0..TEXTS_BYTES_MAX / TEXT_BYTES_MAX {
        forms.push(read_form(&buffers, with_text(TEXT_BYTES_FREE)).await.unwrap_or_else(|refusal| panic!("{refusal}")));
    }
    assert_eq!(read_form(&buffers, with_text(TEXT_BYTES_FREE)).await.err(), Some(Refusal::Overloaded));
    // What most forms have is free, and what is given back can be had.
    assert!(read_form(&buffers, with_text(1000)).await.is_ok());
    forms.pop();
    let form = read_form(&buffers, with_text(TEXT_BYTES_MAX - 1)).await.unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!((form.texts.fields["t"].len(), form.length), (TEXT_BYTES_MAX - 1, Length::Exact(3)));
    assert!(matches!(read_form(&buffers, with_text(TEXT_BYTES_MAX)).await, Err(Refusal::InvalidRequest { .. })));
    // Names are text too, and take room.
    let names: String = (0..9).map(|n| format!("{HEAD}\"{n}{}\"\r\n\r\n\r\n", "n".repeat(8 << 10))).collect();
    let names = names + &with_text(1);
    assert_eq!(read_form(&buffers, names.clone()).await.err(), Some(Refusal::Overloaded));
    drop(forms);
    assert!(matches!(read_form(&buffers, names).await, Err(Refusal::InvalidRequest { .. })));
}

#[test]
fn half_of_the_room_is_left_to_those_who_need_it() {
    let buffers = FormBuffers::new(8 << 20, Duration::ZERO);
    let held: Vec<_> = std::iter::from_fn(|| buffers.spare(8 << 20)).collect();
    assert_eq!(held.len(), 2);
    assert!(buffers.spare((8 << 20) + 1).is_none());
}

#[test]
fn a_length_has_two_endings() {
    let most = Length::AtMost(1002);
    assert_eq!(most.likely(), Some(1000));
    assert!(most.can_be(1002) && most.can_be(1000) && most.can_be(3));
    assert!(!most.can_be(1001) && !most.can_be(1003));
}

#[tokio::test]
async fn a_file_of_another_length_breaks_off() {
    for (bytes, got) in [(5, None), (7, Some(6))] {
        let frames = [Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"def"))];
        let differs = move |got| Refusal::ChunkSizeMismatch { expected: bytes, got };
        let file = exactly(Box::pin(futures_util::stream::iter(frames)), bytes, differs);
        let last = file.collect::<Vec<_>>().await.pop();
        assert_eq!(last, Some(Err(Interrupted::Malformed(Refusal::ChunkSizeMismatch { expected: bytes, got }))));
    }
}
