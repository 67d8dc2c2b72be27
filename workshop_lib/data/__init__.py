"""The shop's data: find it, check it, clean it, and load it as tables.

from workshop_lib import data
sales = data.load("daily_sales")
"""

from workshop_lib.data.prepare import TABLES, Manifest, load, prepared
from workshop_lib.data.quality import QualityReport, clean, measure
from workshop_lib.data.schemas import DataError
from workshop_lib.data.sources import Source, find_source

__all__ = [
    "TABLES",
    "DataError",
    "Manifest",
    "QualityReport",
    "Source",
    "clean",
    "find_source",
    "load",
    "measure",
    "prepared",
]
