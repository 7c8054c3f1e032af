"""One file a version. Revisions are numbers of four digits that ascend; a released one is never edited."""
