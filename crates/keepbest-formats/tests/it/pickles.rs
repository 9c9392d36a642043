//! PyTorch files made by hand.

use keepbest_formats::pth::{Limits, PthError as E, PthFile};

use crate::support::zip_archive;

/// Writes pickles.
#[derive(Default)]
pub(crate) struct Pickle(pub Vec<u8>);

impl Pickle {
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    pub(crate) fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    pub(crate) fn ints(self, values: &[i64]) -> Self {
        let pickle = values.iter().fold(self.raw(b"("), |p, &value| p.int(value));
        pickle.raw(b"t")
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`
    pub(crate) fn tensor(
        self,
        storage: (&str, &str, i64),
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        let (class, key, elements) = storage;
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .text("storage")
            .raw(format!("ctorch\n{class}\n").as_bytes())
            .text(key)
            .text("cpu")
            .int(elements)
            .raw(b"tQ")
            .int(offset)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    /// The file with this pickle and storage `0`.
    pub(crate) fn file(self, storage: &[u8]) -> Result<PthFile, E> {
        let pickle = self.raw(b".").0;
        let zip = zip_archive(&[("m/data.pkl", &pickle), ("m/data/0", storage)]);
        PthFile::from_bytes(zip.into(), Limits::default())
    }
}

/// A pickle of protocol 2.
pub(crate) fn pickle() -> Pickle {
    Pickle::default().raw(b"\x80\x02")
}
