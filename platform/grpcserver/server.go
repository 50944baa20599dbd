package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/slipwayhq/slipway/platform/health"
)

// streamWorkers is how many calls find a goroutine whose stack has grown already; calls
// beyond it get a new one each, as all do without workers. The depth of the chain makes
// growing the stack anew for every call a tenth of the server's CPU.
const streamWorkers = 32

// Server serves gRPC services through the chain that the package comment describes. Register
// the services, then call [Server.Run]; all methods are safe for concurrent use.
type Server struct {
	cfg       Config
	opts      options
	monitor   *health.Monitor
	logger    *zap.Logger
	metrics   *metrics
	validator protovalidate.Validator
	grpc      *grpc.Server
	probe     *grpc.Server

	// onDrain runs a function when streams are told to end, unless its result is called
	// before; endStreams tells them.
	onDrain    func(func()) (stop func() bool)
	endStreams context.CancelFunc

	mu            sync.Mutex
	methods       map[string]*method
	registerErr   error
	listener      *listener
	probeListener *listener
	hooks         []hook
	draining      bool
	drained       chan struct{}
	drainErr      error
}

// New returns a server that answers for monitor's health. It fails on a bad configuration,
// on unreadable TLS files and on metrics that are registered already. It opens no port, but
// it starts goroutines: call [Server.Shutdown] even if Run was never called.
func New(cfg Config, monitor *health.Monitor, opts ...Option) (*Server, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure gRPC server: %w", err)
	}
	if monitor == nil {
		return nil, errors.New("configure gRPC server: no health monitor")
	}
	o := options{logger: zap.NewNop(), propagator: propagation.NewCompositeTextMapPropagator()}
	for _, opt := range opts {
		opt(&o)
	}
	creds, err := newCredentials(cfg.TLS, o.logger)
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(o.registerer)
	if err != nil {
		return nil, err
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("create request validator: %w", err)
	}
	drain, endStreams := context.WithCancel(context.Background())
	s := &Server{
		cfg: cfg, opts: o, monitor: monitor, metrics: metrics, validator: validator,
		logger:     o.logger.Named("grpc").WithOptions(zap.WithCaller(false), zap.AddStacktrace(zapcore.FatalLevel)),
		onDrain:    func(f func()) func() bool { return context.AfterFunc(drain, f) },
		endStreams: endStreams,
		methods:    make(map[string]*method),
		drained:    make(chan struct{}),
	}
	s.grpc = grpc.NewServer(s.serverOptions(creds)...)
	monitor.Register(s)
	if cfg.Reflection {
		reflection.Register(reflected{s})
	}
	if cfg.ProbeAddr != "" {
		s.probe = grpc.NewServer(grpc.ConnectionTimeout(cfg.ConnectionTimeout),
			grpc.MaxConcurrentStreams(16), grpc.MaxRecvMsgSize(4<<10))
		monitor.Register(s.probe)
	}
	return s, nil
}

func (s *Server) serverOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(s.cfg.MaxRecvBytes),
		grpc.MaxSendMsgSize(s.cfg.MaxSendBytes),
		grpc.MaxHeaderListSize(uint32(s.cfg.MaxHeaderListBytes)),
		grpc.MaxConcurrentStreams(uint32(s.cfg.MaxConcurrentStreams)),
		grpc.ConnectionTimeout(s.cfg.ConnectionTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      s.cfg.MaxConnectionAge,
			MaxConnectionAgeGrace: s.cfg.MaxConnectionAgeGrace,
			Time:                  s.cfg.KeepaliveTime,
			Timeout:               s.cfg.KeepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             s.cfg.KeepaliveMinTime,
			PermitWithoutStream: true,
		}),
		grpc.UnknownServiceHandler(s.unknownMethod(s.newMethod(unknown, unknown, unknown))),
	}
	if s.opts.tracers != nil {
		opts = append(opts, grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(s.opts.tracers),
			otelgrpc.WithPropagators(s.opts.propagator),
			otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
			otelgrpc.WithFilter(s.traced),
		)))
	}
	return opts
}

// RegisterService adds a service, as generated code does. Its series are created and its
// validation rules compiled here; a rule that does not compile fails [Server.Listen].
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	wrapped := grpc.ServiceDesc{
		ServiceName: desc.ServiceName,
		HandlerType: desc.HandlerType,
		Metadata:    desc.Metadata,
	}
	for _, d := range desc.Methods {
		m := s.newMethod(desc.ServiceName, d.MethodName, kindUnary)
		wrapped.Streams = append(wrapped.Streams, grpc.StreamDesc{
			StreamName: d.MethodName,
			Handler:    s.unary(m, d.Handler),
		})
	}
	for _, d := range desc.Streams {
		m := s.newMethod(desc.ServiceName, d.StreamName, streamKind(d))
		d.Handler = s.stream(m, d.Handler)
		wrapped.Streams = append(wrapped.Streams, d)
	}
	s.grpc.RegisterService(&wrapped, impl)
	s.compileRules(desc.ServiceName)
}

// Listen opens the ports, so that one that is taken is found before anything else starts.
// Run calls it if nobody did; a second call changes nothing.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.registerErr != nil:
		return s.registerErr
	case s.draining:
		return grpc.ErrServerStopped
	case s.listener != nil:
		return nil
	}
	lis, err := listen(s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for gRPC: %w", err)
	}
	if s.probe != nil {
		if s.probeListener, err = listen(s.cfg.ProbeAddr); err != nil {
			_ = lis.Close()
			return fmt.Errorf("listen for probes: %w", err)
		}
	}
	s.listener = lis
	return nil
}

// Addr is where the services are served, nil before [Server.Listen].
func (s *Server) Addr() net.Addr {
	lis, _ := s.listeners()
	return lis.addr()
}

// ProbeAddr is where the plaintext health service is served, nil if it is not.
func (s *Server) ProbeAddr() net.Addr {
	_, probe := s.listeners()
	return probe.addr()
}

// Run serves until [Server.Shutdown] has finished, and then returns nil. When ctx ends
// first it calls Shutdown and returns its error. It fails if a port cannot be opened or
// stops accepting; then Shutdown remains to be called.
func (s *Server) Run(ctx context.Context) error {
	switch err := s.Listen(); {
	case errors.Is(err, grpc.ErrServerStopped):
		<-s.drained
		return nil
	case err != nil:
		return err
	}
	stopped := make(chan error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { stopped <- s.grpc.Serve(s.listener) })
	if s.probe != nil {
		wg.Go(func() { stopped <- s.probe.Serve(s.probeListener) })
	}
	s.logger.Info("serving gRPC", zap.Stringer("addr", s.listener.Addr()))

	var err error
	select {
	case <-ctx.Done():
		err = s.Shutdown(context.WithoutCancel(ctx))
	case served := <-stopped:
		if !s.isDraining() {
			return fmt.Errorf("serve gRPC: %w", served)
		}
		<-s.drained
	}
	wg.Wait()
	return err
}

func (s *Server) listeners() (lis, probe *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener, s.probeListener
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) newMethod(service, name, kind string) *method {
	m := s.metrics.method(service, name, kind)
	m.public = service == healthpb.Health_ServiceDesc.ServiceName
	m.logger = s.logger.With(zap.String("grpc.service", service), zap.String("grpc.method", name))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.methods[m.full] = m
	return m
}

// traced keeps spans away from probes, and their names away from methods that callers
// make up.
func (s *Server) traced(info *stats.RPCTagInfo) bool {
	m, ok := s.methods[info.FullMethodName]
	return ok && !m.public
}

// compileRules compiles the validation rules of a service's requests, which would
// otherwise be left to the first call of each method.
func (s *Server) compileRules(service string) {
	desc, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return // Not described by protobuf: there is nothing to compile.
	}
	methods := desc.(protoreflect.ServiceDescriptor).Methods()
	for i := range methods.Len() {
		input := methods.Get(i).Input().FullName()
		msg, err := protoregistry.GlobalTypes.FindMessageByName(input)
		if err != nil {
			continue
		}
		var compilation *protovalidate.CompilationError
		if err := s.validator.Validate(msg.New().Interface()); errors.As(err, &compilation) {
			s.mu.Lock()
			s.registerErr = errors.Join(s.registerErr, fmt.Errorf("compile validation rules of %s: %w", input, err))
			s.mu.Unlock()
		}
	}
}

func streamKind(d grpc.StreamDesc) string {
	switch {
	case d.ClientStreams && d.ServerStreams:
		return kindBidiStream
	case d.ClientStreams:
		return kindClientStream
	default:
		return kindServerStream
	}
}

// reflected is what the reflection service needs of a server.
type reflected struct{ *Server }

// GetServiceInfo implements [reflection.ServiceInfoProvider].
func (r reflected) GetServiceInfo() map[string]grpc.ServiceInfo { return r.grpc.GetServiceInfo() }

func newCredentials(cfg TLS, logger *zap.Logger) (credentials.TransportCredentials, error) {
	if !cfg.enabled() {
		return insecure.NewCredentials(), nil
	}
	certs, err := loadCertificates(cfg, logger)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(certs.serverConfig()), nil
}
