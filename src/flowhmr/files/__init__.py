"""Files of others as plain data: pickles, joblib, torch, npy, npz, MATLAB, HDF5, JSON, TFRecord,
CDF; nothing in them runs."""

from flowhmr.files.cdf import data_of_cdf
from flowhmr.files.containers import MAX_BYTES, plain_data
from flowhmr.files.errors import DataFileError, PickleFileError
from flowhmr.files.jsons import json_entries
from flowhmr.files.paths import path_inside
from flowhmr.files.pickles import data_of_pickle
from flowhmr.files.tfrecord import Features, example_of, tf_records

__all__ = [
    "MAX_BYTES",
    "DataFileError",
    "Features",
    "PickleFileError",
    "data_of_cdf",
    "data_of_pickle",
    "example_of",
    "json_entries",
    "path_inside",
    "plain_data",
    "tf_records",
]
