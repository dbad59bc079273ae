// The set-up of Kubernaut's integration suite, in the place of its own: the controller is a process that
// tests/kubernaut/suites.py runs for the Deployment below, not a part of the test. Receiver and helpers are theirs.
package notification

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	notificationv1alpha1 "github.com/jordigilh/kubernaut/api/notification/v1alpha1"
	"github.com/jordigilh/kubernaut/pkg/audit"
	"github.com/jordigilh/kubernaut/pkg/notification/credentials"
	"github.com/jordigilh/kubernaut/pkg/notification/delivery"
	notificationmetrics "github.com/jordigilh/kubernaut/pkg/notification/metrics"
	notificationstatus "github.com/jordigilh/kubernaut/pkg/notification/status"
	"github.com/jordigilh/kubernaut/pkg/shared/sanitization"
	"github.com/jordigilh/kubernaut/test/infrastructure"
	"github.com/jordigilh/kubernaut/test/shared/integration"
)

func insteadSynchronizedBeforeSuite(func() []byte, func([]byte)) bool { return true }
func insteadSynchronizedAfterSuite(func(), func()) bool               { return true }

var _ = BeforeSuite(func() {
	ctx, cancel = context.WithCancel(context.Background())
	transport, err := infrastructure.NewTLSAwareTransport(os.Getenv("KUBECONFIG"))
	Expect(err).ToNot(HaveOccurred())
	http.DefaultTransport = transport
	cfg, err = clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	Expect(err).ToNot(HaveOccurred())
	cfg.QPS, cfg.Burst = 1000, 2000
	Expect(notificationv1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	k8sClient, err = client.New(cfg, client.Options{Scheme: scheme.Scheme})
	Expect(err).ToNot(HaveOccurred())
	k8sAPIReader = k8sClient
	// Never started: tests ask it for its reader.
	k8sManager, err = ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
	})
	Expect(err).ToNot(HaveOccurred())

	testNamespace = os.Getenv("SUITE_NAMESPACE")
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: testNamespace}}
	Expect(client.IgnoreAlreadyExists(k8sClient.Create(ctx, namespace))).To(Succeed())
	deployMockSlackServer()
	dsClients = integration.NewAuthenticatedDataStorageClients(
		os.Getenv("SUITE_STORE"), os.Getenv("SUITE_TOKEN"), 5*time.Second)
	realAuditStore, err = audit.NewBufferedStore(
		dsClients.AuditClient, audit.DefaultConfig(), "notification-controller", ctrl.Log)
	Expect(err).ToNot(HaveOccurred())
	// Nobody sends through these: tests that put something of theirs in the place of a channel find no
	// controller in this process.
	folder := GinkgoT().TempDir()
	credResolver, err = credentials.NewResolver(folder, ctrl.Log)
	Expect(err).ToNot(HaveOccurred())
	originalConsoleService = delivery.NewConsoleDeliveryService()
	originalFileService = delivery.NewFileDeliveryService(folder, "json", 0)
	originalLogService = delivery.NewLogDeliveryService("json")
	deliveryOrchestrator = delivery.NewOrchestrator(
		sanitization.NewSanitizer(), notificationmetrics.NewMetrics(),
		notificationstatus.NewManager(k8sClient, k8sClient), ctrl.Log)

	manifest := strings.ReplaceAll(os.Getenv("SUITE_BESIDES"), "SLACK_URL", slackWebhookURL)
	kubectl(manifest, "apply", "-f", "-")
	kubectl("", "rollout", "status", "deployment", "notification-controller", "--timeout=180s")
})

var _ = AfterSuite(func() {
	mockSlackServer.Close()
	cancel()
})

func kubectl(input string, words ...string) {
	command := exec.Command("kubectl", append([]string{"-n", os.Getenv("SUITE_NAMESPACE")}, words...)...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	Expect(err).ToNot(HaveOccurred(), string(out))
}
