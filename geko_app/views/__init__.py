"""Snapshots -> what a page draws. Pure; knows no layout and no process."""
