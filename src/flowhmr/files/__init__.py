"""Files of others as plain data: pickles, joblib, torch, npy, npz, MATLAB, JSON; nothing runs."""

from flowhmr.files.containers import MAX_BYTES, plain_data
from flowhmr.files.errors import DataFileError, PickleFileError
from flowhmr.files.jsons import json_entries
from flowhmr.files.paths import path_inside
from flowhmr.files.pickles import data_of_pickle

__all__ = [
    "MAX_BYTES",
    "DataFileError",
    "PickleFileError",
    "data_of_pickle",
    "json_entries",
    "path_inside",
    "plain_data",
]
