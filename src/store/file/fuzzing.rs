//! What holds of everything that the file store finds in its files.

use super::layout::{Header, InPlace, RECORD_BYTES, is_session, part_name, part_of_name};
use super::record::Record;
use crate::domain::Crc64;
use crate::fuzzing::Input;

pub(crate) fn records(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => record(input.rest()),
        1 => header(input.text()),
        2 => {
            // Rightly summed: what is behind the checksum is looked at too.
            let json = input.text();
            header(&format!("chunkgate-upload-1 {}\n{json}\n", Crc64::of(json.as_bytes())));
        }
        _ => {
            let name = input.text();
            assert!(part_of_name(name).is_none_or(|number| part_name(number) == name));
            assert!(!is_session(name) || (name.len() == 32 && !name.contains(['/', '.'])));
        }
    }
}

fn record(data: &[u8]) {
    let mut written = [0; RECORD_BYTES];
    let bytes = data.len().min(RECORD_BYTES);
    written[..bytes].copy_from_slice(&data[..bytes]);
    let plain = Record::decode(&written);
    let sum = Crc64::of(&written[..56]).0.to_le_bytes();
    let is_summed = written[56..] == sum;
    assert!(plain.is_none() || is_summed);
    written[..8].copy_from_slice(b"cgpart01");
    let sum = Crc64::of(&written[..56]).0.to_le_bytes();
    written[56..].copy_from_slice(&sum);
    let Some(record) = Record::decode(&written) else { return };
    assert_eq!(Record::decode(&record.encode()), Some(record));
    assert_eq!(record.part().number, record.number);
}

fn header(text: &str) {
    let Some(header) = Header::decode(text) else { return };
    let encoded = header.encode().expect("it can be written");
    assert_eq!(Header::decode(&encoded), Some(header.clone()));
    if let Some(layout) = header.in_place() {
        places(&layout);
    }
}

/// Parts lie one behind the other within the data, records behind it.
fn places(layout: &InPlace) {
    assert!(layout.data_bytes() <= layout.records_at() && layout.records_at() <= layout.file_bytes());
    assert_eq!(layout.numbers().count(), layout.count() as usize);
    let mut end = 0;
    for number in layout.numbers() {
        let (at, bytes) = layout.place_of(number).expect("it is of the plan");
        assert_eq!(at, end);
        end = at + bytes;
        let record = layout.record_at(number).expect("it is of the plan");
        assert!(record >= layout.records_at() && record + RECORD_BYTES as u64 <= layout.file_bytes());
        assert_eq!(record % RECORD_BYTES as u64, 0);
    }
    assert_eq!(end, layout.data_bytes());
}
