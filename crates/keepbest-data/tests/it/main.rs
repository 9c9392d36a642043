//! Integration tests of keepbest-data.
