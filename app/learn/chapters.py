"""The seven chapters in order."""

from __future__ import annotations

from app.learn.alignment.chapter import CHAPTER as ALIGNMENT
from app.learn.choice.chapter import CHAPTER as WHICH_ONE
from app.learn.contest.chapter import CHAPTER as YOUR_DESIGN
from app.learn.counting.chapter import CHAPTER as COUNTING
from app.learn.kronecker.chapter import CHAPTER as KRONECKER
from app.learn.lora.chapter import CHAPTER as FROM_LORA
from app.learn.stability.chapter import CHAPTER as STABILITY

CHAPTERS = (KRONECKER, FROM_LORA, COUNTING, ALIGNMENT, STABILITY, YOUR_DESIGN, WHICH_ONE)
