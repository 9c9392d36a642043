//! PyTorch's names of element types and storages.

use super::pickle::Global;
use crate::Dtype;

/// What a storage class says about its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorageClass {
    /// Elements of a type.
    Typed(Dtype),
    /// Bytes; the tensor says of what type.
    Untyped,
}

/// `torch.float32` and so on.
pub(super) fn dtype(global: &Global) -> Option<Dtype> {
    if global.module != "torch" {
        return None;
    }
    Some(match global.name.as_str() {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        "complex32" | "chalf" => Dtype::C32,
        "complex64" | "cfloat" => Dtype::C64,
        "complex128" | "cdouble" => Dtype::C128,
        _ => return None,
    })
}

/// `torch.FloatStorage`, `torch.cuda.HalfStorage`, `torch.storage.UntypedStorage` and so on.
pub(super) fn storage(global: &Global) -> Option<StorageClass> {
    let module = global.module.as_str();
    if !matches!(module, "torch" | "torch.cuda" | "torch.storage") {
        return None;
    }
    Some(StorageClass::Typed(match global.name.as_str() {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" => Dtype::C64,
        "ComplexDoubleStorage" => Dtype::C128,
        "UntypedStorage" | "_UntypedStorage" => return Some(StorageClass::Untyped),
        _ => return None,
    }))
}

/// The names that PyTorch has for the elements of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// By the storage class, in `torch`.
    Storage(&'static str),
    /// By the dtype, in `torch`: newer element types have no storage class of their own.
    Dtype(&'static str),
}

/// PyTorch's names for elements of a type.
pub(super) fn form(dtype: Dtype) -> Form {
    match dtype {
        Dtype::F64 => Form::Storage("DoubleStorage"),
        Dtype::F32 => Form::Storage("FloatStorage"),
        Dtype::F16 => Form::Storage("HalfStorage"),
        Dtype::BF16 => Form::Storage("BFloat16Storage"),
        Dtype::I64 => Form::Storage("LongStorage"),
        Dtype::I32 => Form::Storage("IntStorage"),
        Dtype::I16 => Form::Storage("ShortStorage"),
        Dtype::I8 => Form::Storage("CharStorage"),
        Dtype::U8 => Form::Storage("ByteStorage"),
        Dtype::Bool => Form::Storage("BoolStorage"),
        Dtype::C64 => Form::Storage("ComplexFloatStorage"),
        Dtype::C128 => Form::Storage("ComplexDoubleStorage"),
        Dtype::F8E4M3 => Form::Dtype("float8_e4m3fn"),
        Dtype::F8E4M3Fnuz => Form::Dtype("float8_e4m3fnuz"),
        Dtype::F8E5M2 => Form::Dtype("float8_e5m2"),
        Dtype::F8E5M2Fnuz => Form::Dtype("float8_e5m2fnuz"),
        Dtype::F8E8M0 => Form::Dtype("float8_e8m0fnu"),
        Dtype::U64 => Form::Dtype("uint64"),
        Dtype::U32 => Form::Dtype("uint32"),
        Dtype::U16 => Form::Dtype("uint16"),
        Dtype::C32 => Form::Dtype("complex32"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_understood() {
        for of in Dtype::ALL {
            let global = |name: &str| Global {
                module: "torch".into(),
                name: name.into(),
            };
            match form(of) {
                Form::Storage(name) => {
                    assert_eq!(storage(&global(name)), Some(StorageClass::Typed(of)));
                }
                Form::Dtype(name) => assert_eq!(dtype(&global(name)), Some(of)),
            }
        }
    }
}
