"""The six chapters in order."""

from __future__ import annotations

from app.learn.ch1 import CHAPTER as KRONECKER
from app.learn.ch2 import CHAPTER as FROM_LORA
from app.learn.ch3 import CHAPTER as COUNTING
from app.learn.ch4 import CHAPTER as ALIGNMENT
from app.learn.ch5 import CHAPTER as STABILITY
from app.learn.ch6 import CHAPTER as YOUR_DESIGN

CHAPTERS = (KRONECKER, FROM_LORA, COUNTING, ALIGNMENT, STABILITY, YOUR_DESIGN)
