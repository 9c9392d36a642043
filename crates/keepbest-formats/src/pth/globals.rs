//! Names in a pickle and their meaning: some are data to us, some are dangerous.

use std::fmt;

use super::pickle::Global;

/// A call that marks a file as made to attack who opens it with a pickle loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DangerousCall {
    /// The dangerous function.
    pub global: Global,
    /// With what it would be called, as Python shows it, shortened; or what it would be handed to.
    pub how: String,
}

impl fmt::Display for DangerousCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.global, self.how)
    }
}

/// The meaning that a name in a pickle is taken to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Its meaning is known and it is plain data: tensors, containers, numbers.
    Data,
    /// Unknown here: kept as a record with its name, never run, never guessed.
    Refused,
    /// Known to run commands, load code or touch files: a sign that the file was made to attack who
    /// opens it with a pickle loader.
    Dangerous,
}

/// Packages of which everything, submodules included, is dangerous in a model file.
const DANGEROUS_PACKAGES: &[&str] = &[
    "_pyrepl",
    "aiohttp",
    "asyncio",
    "cffi",
    "cloudpickle",
    "ctypes",
    "dill",
    "distutils",
    "ensurepip",
    "http",
    "httpx",
    "idlelib",
    "importlib",
    "joblib",
    "lib2to3",
    "multiprocessing",
    "numpy.f2py",
    "numpy.testing",
    "os",
    "paramiko",
    "pip",
    "requests",
    "setuptools",
    "sqlite3",
    "torch._dynamo",
    "torch._inductor",
    "torch.hub",
    "torch.jit.unsupported_tensor_ops",
    "torch.package",
    "torch.serialization",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.utils.cpp_extension",
    "torch.utils.data.datapipes",
    "torch.utils.model_zoo",
    "urllib",
    "venv",
    "xmlrpc",
];

/// Modules of which everything is dangerous in a model file. A longer path is somebody's own
/// package: `code.models` is not Python's `code`.
const DANGEROUS_MODULES: &[&str] = &[
    "_aix_support",
    "_osx_support",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "_winapi",
    "bdb",
    "cPickle",
    "cProfile",
    "code",
    "codeop",
    "commands",
    "doctest",
    "ftplib",
    "httplib",
    "imaplib",
    "imp",
    "logging.config",
    "marshal",
    "nntplib",
    "nt",
    "ntpath",
    "pdb",
    "pickle",
    "pkgutil",
    "poplib",
    "popen2",
    "posix",
    "posixpath",
    "profile",
    "pty",
    "pydoc",
    "runpy",
    "shelve",
    "shutil",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "sys",
    "telnetlib",
    "tempfile",
    "timeit",
    "trace",
    "urllib2",
    "webbrowser",
    "zipimport",
];

/// Single names that are dangerous in modules that are not.
const DANGEROUS_NAMES: &[(&str, &str)] = &[
    ("_codecs", "open"),
    ("_io", "FileIO"),
    ("_io", "open"),
    ("_operator", "attrgetter"),
    ("_operator", "itemgetter"),
    ("_operator", "methodcaller"),
    ("codecs", "open"),
    ("functools", "reduce"),
    ("glob", "glob"),
    ("io", "FileIO"),
    ("io", "open"),
    ("numpy", "load"),
    ("numpy", "save"),
    ("numpy", "fromfile"),
    ("numpy", "memmap"),
    ("operator", "attrgetter"),
    ("operator", "itemgetter"),
    ("operator", "methodcaller"),
    ("torch", "load"),
    ("torch", "save"),
    ("torch.jit", "load"),
    ("torch.storage", "_load_from_file"),
    ("torch.fx.graph_module", "reduce_graph_module"),
    ("torch.fx.graph_module", "reduce_package_graph_module"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("types", "LambdaType"),
    ("types", "MethodType"),
    ("uuid", "_get_command_stdout"),
];

/// Builtins that compute something from their arguments and touch nothing else; of the others, those that are not data are dangerous.
/// What calls an argument of its own (`map`, `filter`) is none of these.
const BUILTIN_PURE: &[&str] = &[
    "abs",
    "all",
    "any",
    "ascii",
    "bin",
    "callable",
    "chr",
    "divmod",
    "enumerate",
    "format",
    "hash",
    "hex",
    "isinstance",
    "issubclass",
    "len",
    "max",
    "min",
    "oct",
    "ord",
    "pow",
    "repr",
    "reversed",
    "round",
    "sorted",
    "sum",
    "unichr",
    "zip",
];

/// Builtins that are data.
const BUILTIN_DATA: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "type",
    "unicode",
    "xrange",
    // Constants.
    "Ellipsis",
    "False",
    "None",
    "NotImplemented",
    "True",
    // Errors whose names do not end like one.
    "GeneratorExit",
    "KeyboardInterrupt",
    "StopAsyncIteration",
    "StopIteration",
    "SystemExit",
];

/// Whether a builtin is one of the class hierarchy of errors.
fn is_error(name: &str) -> bool {
    let endings = ["Error", "Exception", "ExceptionGroup", "Warning"];
    name.chars().all(char::is_alphanumeric) && endings.iter().any(|ending| name.ends_with(ending))
}

/// Names whose meaning is known.
const DATA: &[(&str, &str)] = &[
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "Size"),
    ("torch", "Tensor"),
    ("torch", "device"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
    ("torch.jit._pickle", "build_boollist"),
    ("torch.jit._pickle", "build_doublelist"),
    ("torch.jit._pickle", "build_intlist"),
    ("torch.jit._pickle", "build_tensorlist"),
    ("torch.jit._pickle", "restore_type_tag"),
    ("torch.nn.parameter", "Buffer"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
    ("torch.storage", "TypedStorage"),
    ("torch.storage", "UntypedStorage"),
    ("torch.storage", "_TypedStorage"),
    ("torch.storage", "_UntypedStorage"),
    ("uuid", "UUID"),
];

/// What `global` is taken for.
#[must_use]
pub fn trust(global: &Global) -> Trust {
    let (module, name) = (global.module.as_str(), global.name.as_str());
    if DATA.contains(&(module, name))
        || super::dtypes::dtype(global).is_some()
        || super::dtypes::storage(global).is_some()
    {
        return Trust::Data;
    }
    let is_builtin = matches!(module, "builtins" | "__builtin__" | "__builtins__");
    if is_builtin && (BUILTIN_DATA.contains(&name) || is_error(name)) {
        return Trust::Data;
    }
    if is_builtin && BUILTIN_PURE.contains(&name) {
        return Trust::Refused;
    }
    let dangerous = is_builtin
        || DANGEROUS_NAMES.contains(&(module, name))
        || DANGEROUS_MODULES.contains(&module)
        || DANGEROUS_PACKAGES.iter().any(|package| {
            // With STACK_GLOBAL, `name` may lead on: module `torch`, name `hub.load`.
            let rest = |path: &str| path.is_empty() || path.starts_with('.');
            module.strip_prefix(package).is_some_and(rest)
                || format!("{module}.{name}")
                    .strip_prefix(package)
                    .is_some_and(rest)
        })
        || reaches_through(name);
    if dangerous {
        Trust::Dangerous
    } else {
        Trust::Refused
    }
}

/// A dotted name that goes through dunders or through another module that a class happens to have
/// imported, such as `linalg.__builtins__` or `os.system`: never what a writer of models writes.
fn reaches_through(name: &str) -> bool {
    let mut parts = name.split('.');
    let last = parts.next_back().unwrap_or_default();
    let dunder = |part: &str| part.starts_with("__") && part.ends_with("__") && part.len() > 4;
    parts.any(|part| {
        dunder(part) || DANGEROUS_MODULES.contains(&part) || DANGEROUS_PACKAGES.contains(&part)
    }) || matches!(
        last,
        "__builtins__"
            | "__import__"
            | "__globals__"
            | "__subclasses__"
            | "__getattribute__"
            | "__reduce__"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(module: &str, name: &str) -> Trust {
        trust(&Global {
            module: module.into(),
            name: name.into(),
        })
    }

    #[test]
    fn what_model_files_hold() {
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch.cuda", "HalfStorage"),
            ("torch", "bfloat16"),
            ("torch.storage", "UntypedStorage"),
            ("__builtin__", "set"),
            ("builtins", "bytearray"),
            ("torch.serialization", "_get_layout"),
            ("builtins", "Ellipsis"),
            ("__builtin__", "NotImplemented"),
            ("builtins", "FileNotFoundError"),
        ] {
            assert_eq!(of(module, name), Trust::Data, "{module}.{name}");
        }
        for (module, name) in [
            ("torch.nn.modules.conv", "Conv2d"),
            ("ultralytics.nn.tasks", "DetectionModel"),
            ("__main__", "Net"),
            ("functools", "partial"),
            ("osmnx", "Graph"),
            ("testing", "Net"),
            ("code.models", "Net"),
            ("test", "Net"),
            ("builtins", "len"),
            ("__builtin__", "sorted"),
        ] {
            assert_eq!(of(module, name), Trust::Refused, "{module}.{name}");
        }
    }

    #[test]
    fn what_attacks_hold() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("os.path", "join"),
            ("subprocess", "Popen"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("builtins", "getattr"),
            ("builtins", "__import__"),
            ("builtins", "open"),
            ("builtins", "map"),
            ("builtins", "__import__.Error"),
            ("importlib", "import_module"),
            ("runpy", "_run_code"),
            ("pickle", "loads"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch", "hub.load"),
            ("torch._inductor.codecache", "compile_file"),
            ("numpy.testing._private.utils", "runstring"),
            ("operator", "attrgetter"),
            ("types", "FunctionType"),
            ("pip", "main"),
            ("torch.nn", "os.system"),
            ("collections", "abc.sys.modules"),
            ("torch", "nn.__builtins__"),
            ("torch", "__builtins__"),
        ] {
            assert_eq!(of(module, name), Trust::Dangerous, "{module}.{name}");
        }
    }
}
