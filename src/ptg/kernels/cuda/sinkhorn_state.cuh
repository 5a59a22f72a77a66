// How far the iteration of a task is.
#define MEMORY 8  // changes of the potential that an accelerated step combines

struct State {
  double reached;  // dual that a plain step from the last potential accepted has at least
  double dual;     // of the last potential accepted, after half a step
  double error;    // marginal error there
  int iterations;
  int seen;   // potentials accepted since the beginning, or since one was taken back
  int tried;  // whether the present potential is more than a plain step
  int done;
};
