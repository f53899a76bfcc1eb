//! The stream of a monitor or packer: whatever a container writes there, frames and messages come out or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim::image::tree::TreeBuilder;
use slim_sensor::wire::{Control, Frame, FrameReader, PackerReply, PackerRequest, PackerSetup, Record, decode};

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else { return };
    let (mut reader, mut tree) = (FrameReader::default(), TreeBuilder::default());
    for chunk in stream.chunks(usize::from(size) + 1) {
        reader.feed(chunk);
        loop {
            match reader.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    let _ = decode::<Record>(message);
                    let _ = (decode::<Control>(message), decode::<PackerRequest>(message), decode::<PackerSetup>(message));
                    if let Ok(PackerReply::Entry(entry)) = decode(message) {
                        let _ = tree.push(entry);
                    }
                }
                Ok(Some(Frame::Data(_))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    if let Ok(tree) = tree.finish() {
        assert_eq!(tree.walk(slim::image::tree::EntryId::ROOT).count(), tree.len());
        for id in tree.ids() {
            assert_eq!(tree.get(&tree.path(id)), Some(id));
        }
    }
});
